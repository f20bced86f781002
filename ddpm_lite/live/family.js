// Chapter 10: three crowds from noise to data by equations with the same marginals and different noise.
import { linspace } from "./draw.js";
import { figure, remember } from "./figure.js";
import { mixture } from "./mixture.js";
import { VE, VP } from "./paths.js";
import { randomState } from "./random.js";
import { emStep, linearTs } from "./samplers.js";

const CROWDS = ["ode", "middle", "sde"];
const ASKED = ["ode", "sde"]; // shown with the question
const GROUP_COLOURS = ["blue", "green", "orange", "purple"];
const BARS = 40;
const WIDE = 2.6; // standard deviations that a histogram shows to each side
const MOST_PIECES = 100; // of a drawn path

const namedPath = (name, paths) => (name === "ve" ? VE(...paths.ve) : VP());
const lawOf = ({ weights, means, covs }) => mixture(weights, means, covs);

// The draws of a seed: the start, then the noise of each step. They grow when asked for more.
const noises = remember((seed, n) => {
  const rng = randomState(seed);
  const all = [];
  return (k) => {
    while (all.length <= k) all.push(rng.normals(n));
    return all[k];
  };
});

// One crowd, which takes further steps when asked: states[k] holds all points after k steps.
function crowd(name, eta, steps, { law, seed, points, last, paths }) {
  const path = namedPath(name, paths);
  const exact = lawOf(law);
  const noise = noises(seed, points);
  const ts = linearTs(steps, 1, last);
  const { mean, std } = exactMoments(law, path.coefs(1)); // p_1 is nearly this Gaussian
  const states = [noise(0).map((z) => mean + std * z)];
  const den = (x, t) => {
    const c = path.coefs(t);
    return exact.denoise(x, c.alpha, c.sigma);
  };
  const advance = (taken) => {
    for (let k = states.length - 1; k < taken; k++) {
      states.push(emStep(den, path, states[k], ts[k], ts[k + 1], { eta, noise: noise(k + 1) }));
    }
  };
  return { path, exact, ts, states, advance };
}

const crowds = { ode: remember(crowd), middle: remember(crowd), sde: remember(crowd) };
const settings = ({ law, seed, points, last, paths }) => ({ law, seed, points, last, paths });
const etas = ({ eta }) => ({ ode: 0, middle: eta, sde: 1 });

const average = (x) => x.reduce((sum, each) => sum + each, 0) / x.length;

// The sum of products of two arrays about their means.
function product(x, y) {
  const [mx, my] = [average(x), average(y)];
  return x.reduce((sum, each, i) => sum + (each - mx) * (y[i] - my), 0);
}

const spread = (x) => Math.sqrt(product(x, x) / (x.length - 1));
const correlation = (x, y) => product(x, y) / Math.sqrt(product(x, x) * product(y, y));

// Mean and standard deviation of p_t: alpha m, and the root of alpha^2 v + sigma^2.
function exactMoments({ weights, means, covs }, { alpha, sigma }) {
  const mean = weights.reduce((sum, w, k) => sum + w * means[k][0], 0);
  const square = weights.reduce((sum, w, k) => sum + w * (covs[k][0][0] + means[k][0] ** 2), 0);
  return { mean: alpha * mean, std: Math.sqrt(alpha ** 2 * (square - mean ** 2) + sigma ** 2) };
}

// The colour of each point: the quarter of its start.
const groupsOf = remember((seed, n, groups) => {
  const start = noises(seed, n)(0);
  const order = Array.from(start.keys()).sort((i, j) => start[i] - start[j]);
  const group = new Uint8Array(n);
  order.forEach((i, rank) => { group[i] = Math.floor((rank * groups) / n); });
  return group;
});

const stepsTaken = (t, steps, last) => Math.min(steps, Math.floor(((1 - t) / (1 - last)) * steps + 1e-9));

function compute(state, data) {
  const { steps, path } = state;
  const taken = stepsTaken(state.t, steps, data.last);
  const all = {};
  const numbers = { eta: state.eta };
  for (const name of CROWDS) {
    const one = crowds[name](path, etas(state)[name], steps, settings(data));
    one.advance(taken);
    all[name] = one;
    numbers[name] = spread(one.states[taken]);
    numbers[`${name}_kept`] = correlation(one.states[0], one.states[taken]);
  }
  const t = all.ode.ts[taken];
  const coefs = all.ode.path.coefs(t);
  Object.assign(numbers, { t, exact: exactMoments(data.law, coefs).std });
  return { numbers, all, taken, coefs };
}

function panels({ reach, law, paths, last }, { path, t, steps }, asking) {
  const coefs = namedPath(path, paths).coefs(linearTs(steps, 1, last)[stepsTaken(t, steps, last)]);
  const half = WIDE * exactMoments(law, coefs).std;
  const top = lawOf(law).logProb(linspace(-half, half, 201), coefs.alpha, coefs.sigma).reduce((a, b) => Math.max(a, b));
  const words = { ode: "without noise", middle: "with some noise", sde: "with the noise of the reverse SDE" };
  const lines = (name) => ({
    name: `${name}Paths`, label: `Forty paths from noise to data ${words[name]}, in the colours of their starts`,
    x: [1, 0], y: [-reach[path], reach[path]], xlabel: "time t", ylabel: "x", xticks: [1, 0.75, 0.5, 0.25, 0], aspect: 0.6,
  });
  const histogram = (name) => ({
    name, label: `Histogram of the points ${words[name]}, in the colours of their starts, beside the exact density`,
    x: [-half, half], y: [0, 1.25 * Math.exp(top)], xlabel: "x", ylabel: "density", aspect: 0.6,
  });
  if (asking) return ASKED.map((name) => ({ ...lines(name), name: `${name}Asked` }));
  return CROWDS.flatMap((name) => [lines(name), histogram(name)]);
}

const title = (name, { eta }) => ({ ode: "\u03b7 = 0, the ODE", middle: `\u03b7 = ${eta.toFixed(2)}`, sde: "\u03b7 = 1, the SDE" })[name];

function drawPaths(panel, { states, ts }, taken, group, drawn, words) {
  const stride = Math.ceil((ts.length - 1) / MOST_PIECES);
  const shown = Array.from({ length: Math.ceil(taken / stride) }, (_, j) => j * stride).concat(taken);
  const times = shown.map((k) => ts[k]);
  for (let i = 0; i < drawn; i++) {
    const colour = panel.colours[GROUP_COLOURS[group[i]]];
    panel.line(times, shown.map((k) => states[k][i]), { colour, width: 1.2, alpha: 0.85 });
    panel.points([ts[taken], states[taken][i]], { colour, size: 4, alpha: 1 });
  }
  panel.text(0.97, 0.93 * panel.y[1], words, { bold: true });
}

// Bars in the four colours, one on the other, and the exact density over them.
function drawHistogram(panel, { exact, states }, taken, { alpha, sigma }, group, groups) {
  const [low, high] = panel.x;
  const edges = linspace(low, high, BARS + 1);
  const width = edges[1] - edges[0];
  const x = states[taken];
  const floor = new Float64Array(BARS);
  for (let k = 0; k < groups; k++) {
    const flat = [];
    for (let bar = 0; bar < BARS; bar++) {
      const count = x.reduce((sum, each, i) => sum + (group[i] === k && edges[bar] <= each && each < edges[bar + 1]), 0);
      const height = count / (x.length * width);
      if (height) flat.push([bar, floor[bar], floor[bar] + height]);
      floor[bar] += height;
    }
    const colour = panel.colours[GROUP_COLOURS[k]];
    for (const [bar, base, top] of flat) {
      panel.bars([edges[bar], edges[bar + 1]], [top], { colour, alpha: 0.9, base, gap: 0.5 });
    }
  }
  const line = linspace(low, high, 201);
  panel.line(line, exact.logProb(line, alpha, sigma).map(Math.exp), { colour: panel.colours.text });
}

function draw(views, { all, taken, coefs }, state, { seed, points, groups, drawn }) {
  const group = groupsOf(seed, points, groups);
  for (const name of CROWDS) {
    drawPaths(views[`${name}Paths`], all[name], taken, group, drawn, title(name, state));
    drawHistogram(views[name], all[name], taken, coefs, group, groups);
  }
}

// Two of the crowds halfway, before they show where they end.
function ask(views, world, state, data) {
  const group = groupsOf(data.seed, data.points, data.groups);
  const halfway = Math.floor(state.steps / 2);
  for (const name of ASKED) {
    const one = crowds[name](state.path, etas(state)[name], state.steps, settings(data));
    one.advance(halfway);
    drawPaths(views[`${name}Asked`], one, halfway, group, data.drawn, title(name, state));
  }
}

export default figure({ panels, compute, draw, ask });
