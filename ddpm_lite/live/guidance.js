// Chapter 13: guided samples over the tilted density that they do not follow, by the scale.
import { linspace } from "./draw.js";
import { figure, remember } from "./figure.js";
import { mixture } from "./mixture.js";
import { EDM } from "./paths.js";
import { adams, karrasTs } from "./samplers.js";

const BARS = 68;
const QUESTION_SCALE = 2;
const DECADES = ["1", "10\u207b\u00b9", "10\u207b\u00b2", "10\u207b\u00b3", "10\u207b\u2074"];

const lawOf = ({ weights, means, covs }) => mixture(weights, means, covs);
const lawsOf = (laws, law) => laws[law].map(lawOf);

// uncond + w (cond - uncond)
function guided(everyone, given, path, w) {
  const mix = (no, yes) => no.map((value, i) => value + w * (yes[i] - value));
  return (x, t) => {
    const { alpha, sigma } = path.coefs(t);
    const [no, yes] = [everyone, given].map((law) => law.denoise(x, alpha, sigma));
    return { x0: mix(no.x0, yes.x0), eps: mix(no.eps, yes.eps) };
  };
}

// Where the probability-flow ODE carries the starts.
function ends(law, w, { laws, starts, steps, loudest, quietest }) {
  const path = EDM(loudest);
  const den = guided(...lawsOf(laws, law), path, w);
  const ts = karrasTs(path, steps, { sigmaMax: loudest, sigmaMin: quietest });
  const states = Array.from(adams(den, path, Float64Array.from(starts), ts));
  return states[states.length - 1];
}

// p(x) (p(x|y) / p(x))^w on a fine grid.
function tilted(law, w, { laws, grid: [low, high, cells] }) {
  const [everyone, given] = lawsOf(laws, law);
  const x = linspace(low, high, cells + 1);
  const [all, part] = [everyone, given].map((one) => one.logProb(x));
  const logQ = all.map((value, i) => (1 - w) * value + w * part[i]);
  const top = logQ.reduce((a, b) => Math.max(a, b));
  const q = logQ.map((value) => Math.exp(value - top));
  const total = q.reduce((a, b) => a + b);
  return { x, q: q.map((value) => (value / total) * (cells / (high - low))) };
}

function momentsOf(x, weights) {
  const total = weights.reduce((a, b) => a + b);
  const mean = x.reduce((sum, value, i) => sum + weights[i] * value, 0) / total;
  const variance = x.reduce((sum, value, i) => sum + weights[i] * (value - mean) ** 2, 0) / total;
  return { mean, variance };
}

const settled = ({ laws, starts, steps, loudest, quietest, grid }) => ({ laws, starts, steps, loudest, quietest, grid });
const one = (law, w, data) => {
  const x = ends(law, w, data);
  const density = tilted(law, w, data);
  return { x, density, found: momentsOf(x, x.map(() => 1)), exact: momentsOf(density.x, density.q) };
};
const chosen = remember(one);

// Both variances at all scales.
const curves = remember((law, scales, data) => {
  const all = scales.map((w) => one(law, w, data));
  return { found: all.map(({ found }) => found.variance), exact: all.map(({ exact }) => exact.variance) };
});

function compute({ w, law }, data) {
  const { x, density, found, exact } = chosen(law, w, settled(data));
  const numbers = {
    w, mean: found.mean, variance: found.variance, tilted_mean: exact.mean, tilted_variance: exact.variance,
  };
  return { numbers, x, density };
}

function heights(x, [low, high]) {
  const edges = linspace(low, high, BARS + 1);
  const bars = new Float64Array(BARS);
  const width = (high - low) / BARS;
  x.forEach((value) => {
    const k = Math.floor((value - low) / width);
    if (k >= 0 && k < BARS) bars[k] += 1 / (x.length * width);
  });
  return { edges, bars };
}

const highest = (values) => values.reduce((a, b) => Math.max(a, b));

function panels(data, { w, law }, asking) {
  const scale = asking ? QUESTION_SCALE : w;
  const { x, density } = chosen(asking ? "gauss" : law, scale, settled(data));
  const top = Math.max(highest(density.q), asking ? 0 : highest(heights(x, data.seen).bars), 0.8);
  const words = asking ? "" : ", and the histogram of the guided samples";
  const left = {
    name: asking ? "asked" : "densities",
    label: `Densities of all data, of the data given y and the tilted density${words}`,
    x: data.seen, y: [0, 1.45 * top], xlabel: "x", ylabel: "density", aspect: asking ? 0.6 : 0.85,
  };
  if (asking) return [left];
  const { found, exact } = curves(law, data.scales, settled(data));
  const all = [...found, ...exact].map(Math.log10);
  return [left, {
    name: "variances", label: "Variance of the guided samples and of the tilted density against the scale w",
    x: [0, data.scales[data.scales.length - 1]], y: [Math.min(...all) - 0.3, Math.max(...all) + 0.6],
    yticks: DECADES.map((name, k) => [-k, name]), xlabel: "scale w", aspect: 0.85,
  }];
}

function drawDensities(panel, density, [everyone, given], words) {
  const { muted, text, vermilion } = panel.colours;
  const line = linspace(...panel.x, 401);
  panel.line(line, everyone.logProb(line).map(Math.exp), { colour: muted, width: 1.5 });
  panel.line(line, given.logProb(line).map(Math.exp), { colour: text, width: 1.5 });
  panel.line(density.x, density.q, { colour: vermilion, width: 2.5, dash: [7, 4] });
  const at = (row) => panel.y[1] * (0.94 - 0.08 * row);
  const [x] = panel.x;
  [["all data", muted], ["given y", text], ["- - tilted density", vermilion], ...words].forEach(([name, colour], row) => {
    panel.text(x + 0.15, at(row), name, { colour, bold: row > 1 });
  });
}

function draw({ densities, variances }, { x, density, numbers }, { w, law }, data) {
  const { blue, sky, vermilion, muted } = densities.colours;
  const { edges, bars } = heights(x, data.seen);
  densities.bars(edges, bars, { colour: sky, alpha: 0.8 });
  drawDensities(densities, density, lawsOf(data.laws, law), [["guided samples", blue]]);
  const { found, exact } = curves(law, data.scales, settled(data));
  variances.line([w, w], variances.y, { colour: muted, width: 1 });
  variances.line(data.scales, exact.map(Math.log10), { colour: vermilion, width: 2.5, dash: [7, 4] });
  variances.line(data.scales, found.map(Math.log10), { colour: blue, width: 2.5 });
  variances.points([w, Math.log10(numbers.tilted_variance)], { colour: vermilion, size: 8, alpha: 1 });
  variances.points([w, Math.log10(numbers.variance)], { colour: blue, size: 8, alpha: 1 });
  const end = variances.x[1] - 0.1;
  const top = (row) => variances.y[1] - (variances.y[1] - variances.y[0]) * (0.06 + 0.08 * row);
  [["variance", variances.colours.text], ["- - of the tilted density", vermilion], ["of guided samples", blue]].forEach(([name, colour], row) => {
    variances.text(end, top(row), name, { colour, align: "right", bold: row > 0 });
  });
}

// The tilted density of the question, without the samples.
function ask({ asked }, world, state, data) {
  const { density } = chosen("gauss", QUESTION_SCALE, settled(data));
  drawDensities(asked, density, lawsOf(data.laws, "gauss"), []);
}

export default figure({ panels, compute, draw, ask });
