// Chapter 8: the reverse chain with the exact denoiser, by the variance and the number of its steps.
import { linspace } from "./draw.js";
import { figure, remember } from "./figure.js";
import { mixture } from "./mixture.js";
import { BetaTable } from "./paths.js";
import { randomState } from "./random.js";
import { ancestralStep, ddimStep, linearTs } from "./samplers.js";

const LINE = linspace(-3.5, 3.5, 141);
const EDGES = linspace(-3.5, 3.5, 36);
const GRID = linspace(-3, 3, 61);
const TIMES = linspace(0, 1, 101);
const LEVELS = [5, 3.5, 2, 1, 0.3]; // nats below the top of the log-density
const COLOURS = { forward: "vermilion", posterior: "blue", none: "green" };
const MOST_PIECES = 250; // of a drawn chain

// DDPM's chain of so many steps.
const chainPath = (steps) => BetaTable(linspace(0.1 / steps, 20 / steps, steps));

// Chains from noise towards data, which take further steps when asked. states[k] holds all of them after k steps,
// spreads[k] their variance, limits[k] the variance of infinitely many on a line (Gaussian data).
function chain({ weights, means, covs }, variance, steps, seed, n) {
  const law = mixture(weights, means, covs);
  const dim = means[0].length;
  const path = chainPath(steps);
  const ts = linearTs(steps);
  const random = randomState(seed);
  const noise = () => random.normals(n * dim);
  const states = [noise()];
  const spreads = [spread(states[0], dim)];
  const limits = [1];

  const den = (x, t) => {
    const { alpha, sigma } = path.coefs(t);
    return law.denoise(x, alpha, sigma);
  };
  const back = (x, k, z) =>
    variance === "none"
      ? ddimStep(den, path, x, ts[k], ts[k + 1])
      : ancestralStep(den, path, x, ts[k], ts[k + 1], { variance, noise: z ?? noise() });

  // For Gaussian data a step is linear, x_s = a x_t + r z, and Var(x_s) = a^2 Var(x_t) + r^2. Read r and a from it.
  const limit = (k) => {
    const [r, a] = back(Float64Array.of(0, 1), k, Float64Array.of(1, 0));
    return a ** 2 * limits[k] + r ** 2;
  };
  const advance = (taken) => {
    for (let k = states.length - 1; k < taken; k++) {
      states.push(back(states[k], k));
      spreads.push(spread(states[k + 1], dim));
      if (dim === 1) limits.push(limit(k));
    }
  };
  return { law, path, ts, states, spreads, limits, advance };
}

const chains = { forward: remember(chain), posterior: remember(chain), none: remember(chain) };

function chainAfter(taken, law, variance, steps, { laws, seed, chains: n }) {
  const all = chains[variance](laws[law], variance, steps, seed, n);
  all.advance(taken);
  return all;
}

// The variance of points in dim coordinates, a mean over the coordinates.
function spread(points, dim) {
  const n = points.length / dim;
  let total = 0;
  for (let d = 0; d < dim; d++) {
    let [sum, squares] = [0, 0];
    for (let i = d; i < points.length; i += dim) {
      sum += points[i];
      squares += points[i] ** 2;
    }
    total += (squares - sum ** 2 / n) / (n - 1);
  }
  return total / dim;
}

// The variance of p_t, alpha^2 v + sigma^2, a mean over the coordinates.
function exactVariance({ weights, means, covs }, { alpha, sigma }) {
  const average = (f) => weights.reduce((sum, w, k) => sum + w * f(k), 0);
  const variance = (_, d) =>
    average((k) => covs[k][d][d] + means[k][d] ** 2) - average((k) => means[k][d]) ** 2;
  const v = means[0].map(variance).reduce((sum, each) => sum + each, 0) / means[0].length;
  return alpha ** 2 * v + sigma ** 2;
}

const stepsTaken = (t, steps) => Math.floor((1 - t) * steps + 1e-9);

function compute({ law, variance, steps, t }, data) {
  const taken = stepsTaken(t, steps);
  const all = chainAfter(taken, law, variance, steps, data);
  const coefs = all.path.coefs(all.ts[taken]);
  const line = law === "gaussian";
  const numbers = {
    taken, steps, t: all.ts[taken],
    variance: all.spreads[taken],
    exact: exactVariance(data.laws[law], coefs),
    each: line ? "" : " per coordinate",
    many: line ? `Infinitely many such chains would have ${all.limits[taken].toFixed(4)}. ` : "",
  };
  return { numbers, all, taken, coefs };
}

function panels(data, { law }, asking) {
  const overTime = { x: [1, -0.03], xlabel: "time t", xticks: [1, 0.8, 0.6, 0.4, 0.2, 0] };
  const paths = { ...overTime, y: [-4, 4], ylabel: "x", aspect: 0.72 };
  if (asking) {
    return [
      { ...paths, name: "forward", label: "Forty chains from noise to data, with the large variance" },
      { ...paths, name: "posterior", label: "Forty chains from noise to data, with the small variance" },
    ];
  }
  const plane = [
    { name: "cloud", label: "All chains in the plane, over level lines of the exact density",
      x: [-3, 3], y: [-3, 3], xlabel: "x\u2081", ylabel: "x\u2082", aspect: 0.95 },
    { ...overTime, name: "spread", label: "Variance of the chains over time, beside the exact variance",
      y: [0.9, 1.3], ylabel: "variance per coordinate", aspect: 0.95 },
  ];
  const line = [
    { ...paths, name: "paths", label: "Forty chains over time, and two standard deviations of the data" },
    { name: "histogram", label: "Histogram of all chains now, beside the exact density",
      x: [-3.5, 3.5], y: [0, 1.1], xlabel: "x", ylabel: "density", aspect: 0.72 },
  ];
  return law === "gaussian" ? line : plane;
}

// Some of the chains as lines over time, up to the steps taken, with a dot at the head of each.
function drawPaths(panel, { states, ts }, taken, drawn, colour) {
  const stride = Math.ceil((ts.length - 1) / MOST_PIECES);
  const shown = Array.from({ length: Math.ceil(taken / stride) }, (_, j) => j * stride).concat(taken);
  const times = shown.map((k) => ts[k]);
  const style = { colour, width: 1, alpha: 0.7 };
  for (let i = 0; i < drawn; i++) panel.line(times, shown.map((k) => states[k][i]), style);
  const heads = Array.from(states[taken].subarray(0, drawn)).flatMap((x) => [ts[taken], x]);
  panel.points(heads, { colour, size: 5, alpha: 1 });
  panel.segments([1, -1, 0, -1, 1, 1, 0, 1], { colour: panel.colours.text, width: 1.5, dash: [6, 4] });
  panel.text(0.5, -3.6, "dashed: data, 2 standard deviations", { align: "center" });
}

function drawHistogram(panel, { law, states }, taken, { alpha, sigma }, colour) {
  const width = EDGES[1] - EDGES[0];
  const heights = new Float64Array(EDGES.length - 1);
  for (const x of states[taken]) heights[Math.floor((x - EDGES[0]) / width)] += 1 / (states[taken].length * width);
  panel.bars(EDGES, heights, { colour });
  panel.line(LINE, law.logProb(LINE, alpha, sigma).map(Math.exp), { colour: panel.colours.text });
  panel.text(3.4, 1.04, "line: exact density", { align: "right" });
}

const GRID_POINTS = Float64Array.from({ length: 2 * GRID.length ** 2 }, (_, i) => {
  const point = i >> 1;
  return i % 2 ? GRID[Math.floor(point / GRID.length)] : GRID[point % GRID.length];
});

function drawCloud(panel, { law, states }, taken, { alpha, sigma }, colour) {
  const logProb = law.logProb(GRID_POINTS, alpha, sigma);
  const top = logProb.reduce((a, b) => Math.max(a, b));
  const levels = LEVELS.map((below) => top - below);
  panel.contour(logProb, GRID, GRID, levels, { colour: panel.colours.muted, width: 1 });
  panel.points(states[taken], { colour, size: 3, alpha: 0.8 });
}

function drawSpread(panel, { path, spreads, ts }, law, taken, colour) {
  panel.line(TIMES, TIMES.map((t) => exactVariance(law, path.coefs(t))), { colour: panel.colours.text });
  panel.line(ts.subarray(0, taken + 1), spreads, { colour, width: 2.5 });
  panel.points([ts[taken], spreads[taken]], { colour, size: 8, alpha: 1 });
  panel.text(0.95, 1.28, "chains", { colour });
  panel.text(0.95, 1.255, "exact");
}

function draw(views, { all, taken, coefs }, { law, variance }, { drawn, laws }) {
  const { paths, histogram, cloud, spread: spreads } = views;
  const colour = (paths ?? cloud).colours[COLOURS[variance]];
  if (law === "gaussian") {
    drawPaths(paths, all, taken, drawn, colour);
    drawHistogram(histogram, all, taken, coefs, colour);
  } else {
    drawCloud(cloud, all, taken, coefs, colour);
    drawSpread(spreads, all, laws[law], taken, colour);
  }
}

// Both chains of the question, to their ends.
function ask(views, world, state, data) {
  const [steps, names] = [25, { forward: "large variance, \u03b2", posterior: "small variance, \u03b2\u0303" }];
  for (const [variance, name] of Object.entries(names)) {
    const panel = views[variance];
    const all = chainAfter(steps, "gaussian", variance, steps, data);
    drawPaths(panel, all, steps, data.drawn, panel.colours[COLOURS[variance]]);
    panel.text(0.5, 3.6, name, { align: "center", bold: true });
  }
}

export default figure({ panels, compute, draw, ask });
