// Chapter 5: a noisy point, the clean points that it may come from, and the arrow to their mean.
import { linspace } from "./draw.js";
import { figure, remember } from "./figure.js";
import { mixture } from "./mixture.js";
import { randomState } from "./random.js";

const SEEN = [-3, 3];
const AXIS = linspace(...SEEN, 61);
const LINE = linspace(-4, 4, 401);
const TARGETS = 4; // the panel of targets reaches at least so far

const clip = (value, low, high) => Math.min(high, Math.max(low, value));
const minus = (value) => value.toFixed(2).replace("-", "\u2212");
const lawOf = ({ weights, means, covs }) => mixture(weights, means, covs);

// The inverse of a symmetric matrix of one or two rows, and the logarithm of its determinant.
function inverted(S) {
  if (S.length === 1) return { inverse: [[1 / S[0][0]]], logDet: Math.log(S[0][0]) };
  const [[a, b], [, d]] = S;
  const det = a * d - b * b;
  return { inverse: [[d / det, -b / det], [-b / det, a / det]], logDet: Math.log(det) };
}

const product = (A, B) => A.map((row) => B[0].map((_, j) => row.reduce((sum, a, k) => sum + a * B[k][j], 0)));

// One component, given the noisy point: its mean m + G (at - m) and covariance sigma^2 G with G = C (C + sigma^2 I)^-1,
// and the logarithm of its weight up to a constant.
function given(weight, m, C, at, sigma) {
  const S = C.map((row, i) => row.map((c, j) => c + (i === j ? sigma ** 2 : 0)));
  const { inverse, logDet } = inverted(S);
  const gain = product(C, inverse);
  const away = at.map((value, i) => value - m[i]);
  const pull = inverse.map((row) => row.reduce((sum, each, j) => sum + each * away[j], 0));
  const square = pull.reduce((sum, each, i) => sum + each * away[i], 0);
  return {
    log: Math.log(weight) - (square + logDet) / 2,
    mean: m.map((value, i) => value + gain[i].reduce((sum, g, j) => sum + g * away[j], 0)),
    cov: gain.map((row, i) => row.map((_, j) => (sigma ** 2 * (gain[i][j] + gain[j][i])) / 2)),
  };
}

// The law of the clean point, given the noisy one: a mixture again.
function posteriorOf({ weights, means, covs }, at, sigma, least) {
  const parts = weights.map((weight, k) => given(weight, means[k], covs[k], at, sigma));
  const top = Math.max(...parts.map(({ log }) => log));
  const total = parts.reduce((sum, { log }) => sum + Math.exp(log - top), 0);
  const kept = parts.map((part) => ({ ...part, r: Math.exp(part.log - top) / total })).filter(({ r }) => r > least);
  const mass = kept.reduce((sum, { r }) => sum + r, 0);
  return { weights: kept.map(({ r }) => r / mass), means: kept.map(({ mean }) => mean), covs: kept.map(({ cov }) => cov) };
}

// Mean of a mixture, and the trace of its covariance.
function momentsOf({ weights, means, covs }) {
  const mean = means[0].map((_, i) => weights.reduce((sum, w, k) => sum + w * means[k][i], 0));
  const spread = weights.reduce((sum, w, k) =>
    sum + w * mean.reduce((part, value, i) => part + covs[k][i][i] + (means[k][i] - value) ** 2, 0), 0);
  return { mean, spread };
}

const seenAt = ({ dim, at }) => (dim === "line" ? at.slice(0, 1) : at);

const behind = remember((dim, at, noise, { worlds, least, seed, draws }) => {
  const law = posteriorOf(worlds[dim], at, noise, least);
  const points = lawOf(law).sample(draws, randomState(seed));
  const score = lawOf(worlds[dim]).score(Float64Array.from(at), 1, noise);
  return { law, points, score: Array.from(score), ...momentsOf(law) };
});

function compute(state, { worlds, least, seed, draws }) {
  const at = seenAt(state);
  const { n, noise } = state;
  const { law, points, score, mean, spread } = behind(state.dim, at, noise, { worlds, least, seed, draws });
  const dim = at.length;
  const shown = points.slice(0, n * dim);
  const found = mean.map((_, i) => shown.reduce((sum, x, j) => sum + (j % dim === i ? x : 0), 0) / n);
  const squares = shown.reduce((sum, x, j) => sum + (x - mean[j % dim]) ** 2, 0);
  const numbers = {
    shift: Math.hypot(...mean.map((value, i) => value - at[i])),
    tweedie: noise ** 2 * Math.hypot(...score),
    n,
    off: Math.hypot(...found.map((value, i) => value - mean[i])),
    spread: Math.sqrt(squares / n),
    exact: Math.sqrt(spread),
    floor: spread / (2 * noise ** 4),
  };
  const targets = shown.map((x, j) => (x - at[j % dim]) / noise);
  const told = found.map((value, i) => (value - at[i]) / noise);
  return { numbers, at, law, shown, mean, targets, told, exactTarget: score.map((s) => noise * s) };
}

const picture = remember((world) => {
  const grid = Float64Array.from(Array.from(AXIS).flatMap((y) => Array.from(AXIS).flatMap((x) => [x, y])));
  return lawOf(world).logProb(grid).map((log) => Math.exp(log));
});

// Half the width of the panel of targets: all of the cloud is inside.
function reach(state, data) {
  const { exactTarget } = compute(state, data);
  return Math.max(TARGETS, Math.ceil(3 + Math.max(...exactTarget.map(Math.abs))));
}

function panels(data, state, asking) {
  const line = state.dim === "line";
  const world = line
    ? { label: "The clean density on a line, the noisy point with a handle, and the density of the clean points behind it",
        x: [-4, 4], y: [-0.3, 1.15], xlabel: "x", ylabel: "density, scaled", yticks: [0, 1] }
    : { label: "A clean density with four hills, a noisy point with a handle, the clean points behind it, and an arrow to their mean",
        x: SEEN, y: SEEN, xlabel: "x\u2081", ylabel: "x\u2082" };
  if (asking) return [{ name: "world", ...world, x: world.x.map((x) => 1.4 * x), aspect: 1 / 1.4 }];
  const left = { name: "world", aspect: 1, ...world };
  const far = reach(state, data);
  const targets = line
    ? { label: "Bars: denoising targets of the drawn clean points, their mean, and the exact score", y: [0, 0.8],
        ylabel: "density of targets" }
    : { label: "Denoising targets of the drawn clean points, their mean, and the exact score", y: [-far, far],
        ylabel: "target \u00d7 \u03c3, second" };
  return [left, { name: "targets", aspect: 1, x: [-far, far], xlabel: line ? "target \u00d7 \u03c3" : "target \u00d7 \u03c3, first", ...targets }];
}

// The density and the noisy point.
function ask({ world: panel }, { at }, state, { worlds }) {
  drawDensity(panel, state.dim, worlds);
  panel.points(state.dim === "line" ? [at[0], 0] : at, { colour: panel.colours.vermilion, size: 14, alpha: 1 });
}

function drawDensity(panel, dim, worlds) {
  const { muted } = panel.colours;
  if (dim === "plane") return panel.contour(picture(worlds.plane), AXIS, AXIS, [0.02, 0.1, 0.25, 0.45], { colour: muted, width: 1 });
  drawCurve(panel, worlds.line, { colour: muted });
  return panel.line([-4, 4], [0, 0], { colour: muted, width: 1 });
}

// A density on the line, scaled to the height 1.
function drawCurve(panel, law, style) {
  const heights = lawOf(law).logProb(LINE).map(Math.exp);
  const top = heights.reduce((a, b) => Math.max(a, b));
  panel.line(LINE, heights.map((p) => p / top), style);
}

function draw({ world: left, targets: right }, world, state, { worlds }) {
  drawDensity(left, state.dim, worlds);
  (state.dim === "line" ? drawLine : drawPlane)(left, right, world);
}

function drawPlane(left, right, { at, shown, mean, targets, told, exactTarget }) {
  const { blue, sky, vermilion, text } = left.colours;
  left.points(shown, { colour: sky, size: 4, alpha: 0.7 });
  left.quiver(at, [mean[0] - at[0], mean[1] - at[1]], { colour: blue, width: 3.5, head: 10 });
  left.points(mean, { colour: blue, size: 9, alpha: 1 });
  right.points(targets, { colour: sky, size: 4, alpha: 0.7 });
  right.points(told, { colour: vermilion, size: 11, alpha: 1 });
  right.text(...exactTarget, "\u00d7", { colour: text, align: "center", bold: true });
  const [x, y] = [right.x[0], right.y[1]].map((value) => 0.94 * value);
  right.text(x, y, "\u25cf mean of the draws", { colour: vermilion });
  right.text(x, y, "\u00d7 exact: \u03c3 times the score", { colour: text, dy: 18 });
}

function drawLine(left, right, { at, law, shown, mean, targets, told, exactTarget }) {
  const { blue, sky, vermilion, text } = left.colours;
  drawCurve(left, law, { colour: blue, width: 2.5 });
  left.points(Array.from(shown).flatMap((x, i) => [x, -0.2 + 0.12 * ((i * 0.618034) % 1)]), { colour: sky, size: 4, alpha: 0.7 });
  left.quiver([at[0], 0], [mean[0] - at[0], 0], { colour: blue, width: 3.5, head: 10 });
  left.text(-3.9, 1.1, "grey: clean density; blue: given the red point");
  const [low, high] = right.x;
  const edges = linspace(low, high, 41);
  const width = edges[1] - edges[0];
  const heights = new Float64Array(40);
  for (const value of targets) {
    const bin = Math.floor((value - low) / width);
    if (bin >= 0 && bin < 40) heights[bin] += 1 / targets.length / width;
  }
  right.bars(edges, heights, { colour: sky, alpha: 0.8 });
  right.line([told[0], told[0]], [0, 0.68], { colour: vermilion, width: 3 });
  right.line([exactTarget[0], exactTarget[0]], [0, 0.68], { colour: text, width: 2, dash: [5, 4] });
  right.text(0.94 * low, 0.77, "red: mean of the draws", { colour: vermilion });
  right.text(0.94 * low, 0.77, "dashed: \u03c3 times the score", { colour: text, dy: 18 });
}

function handles(world, state) {
  const line = state.dim === "line";
  const [x, y] = state.at;
  const inside = (value) => Number(clip(value, ...SEEN).toFixed(2));
  const move = (right, up) => ({ at: [inside(right), line ? y : inside(up)] });
  const text = line ? `at ${minus(x)}` : `at ${minus(x)}, ${minus(y)}`;
  return [{ panel: "world", x, y: line ? 0 : y, label: "Noisy point", text, step: [0.05, line ? 0 : 0.05], move }];
}

export default figure({ panels, compute, draw, ask, handles });
