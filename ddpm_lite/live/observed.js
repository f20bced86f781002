// Chapter 15: one of two numbers is observed; the clouds of four methods beside the exact posterior of the other.
import { linspace } from "./draw.js";
import { figure, remember } from "./figure.js";
import { mixture } from "./mixture.js";
import { VP, posterior, transition } from "./paths.js";
import { randomState } from "./random.js";
import { angleTs } from "./samplers.js";

const GRID = 81; // of the level lines
const LEVELS = [0.05, 0.2, 0.5, 0.8]; // parts of the largest density
const path = VP();

// For each component of a law in the plane, noised: S^-1, the log of its weight over the root of det S, its gain
// alpha C S^-1, and the first column of what stays unknown of x0, C - gain alpha C.
function noisedParts({ weights, means, covs }, alpha, sigma) {
  return weights.map((weight, k) => {
    const [[a, b], [, d]] = covs[k];
    const [p, q, r] = [alpha ** 2 * a + sigma ** 2, alpha ** 2 * b, alpha ** 2 * d + sigma ** 2];
    const det = p * r - q * q;
    const inverse = [r / det, -q / det, p / det];
    const gain = [
      alpha * (a * inverse[0] + b * inverse[1]), alpha * (a * inverse[1] + b * inverse[2]),
      alpha * (b * inverse[0] + d * inverse[1]), alpha * (b * inverse[1] + d * inverse[2]),
    ];
    const left = [a - alpha * (gain[0] * a + gain[1] * b), b - alpha * (gain[2] * a + gain[3] * b)];
    return { mean: means[k], inverse, gain, left, log: Math.log(weight) - Math.log(det) / 2 };
  });
}

// Of x0 given x_t = (u, v): the mean [0, 1] and the first column of the covariance [2, 3].
function estimate(parts, alpha, u, v) {
  const logs = parts.map(({ mean, inverse: [p, q, r], log }) => {
    const [du, dv] = [u - alpha * mean[0], v - alpha * mean[1]];
    return log - (p * du * du + 2 * q * du * dv + r * dv * dv) / 2;
  });
  const top = Math.max(...logs);
  const shares = logs.map((value) => Math.exp(value - top));
  const total = shares.reduce((sum, value) => sum + value, 0);
  const centres = parts.map(({ mean, gain }) => {
    const [du, dv] = [u - alpha * mean[0], v - alpha * mean[1]];
    return [mean[0] + gain[0] * du + gain[1] * dv, mean[1] + gain[2] * du + gain[3] * dv];
  });
  const out = [0, 0, 0, 0];
  shares.forEach((share, k) => [0, 1].forEach((i) => { out[i] += (share / total) * centres[k][i]; }));
  shares.forEach((share, k) => {
    const first = centres[k][0] - out[0];
    [0, 1].forEach((i) => { out[2 + i] += (share / total) * (parts[k].left[i] + first * (centres[k][i] - out[i])); });
  });
  return out;
}

// The variance in the likelihood of y given x_t, or null where the method does not use one.
function spread(method, noise, { alpha, sigma }) {
  if (method === "dps") return noise ** 2;
  return method === "pigdm" ? noise ** 2 + sigma ** 2 / (alpha ** 2 + sigma ** 2) : null;
}

// A step of DDPM's chain; without a guide the known first number replaces the chain's.
function stepDown(law, method, y, noise, x, t, s, z) {
  const { ofXt, ofX0, variance } = posterior(path, t, s);
  const [at, to] = [path.coefs(t), path.coefs(s)];
  const std = to.sigma > 0 ? Math.sqrt(variance) : 0;
  const parts = noisedParts(law, at.alpha, at.sigma);
  const wide = spread(method, noise, at);
  const out = new Float64Array(x.length);
  for (let i = 0; i < x.length; i += 2) {
    const [first, second, c0, c1] = estimate(parts, at.alpha, x[i], x[i + 1]);
    const pull = wide === null ? 0 : (y - first) / wide;
    out[i] = ofXt * x[i] + ofX0 * (first + c0 * pull) + std * z[i];
    out[i + 1] = ofXt * x[i + 1] + ofX0 * (second + c1 * pull) + std * z[i + 1];
    if (wide === null) out[i] = to.alpha * y + to.sigma * z[i];
  }
  return out;
}

function stepUp(x, t, s, z) {
  const { alphaTs, varTs } = transition(path, t, s);
  return x.map((value, i) => alphaTs * value + Math.sqrt(varTs) * z[i]);
}

// The ends of all chains.
const cloud = remember((law, method, y, noise, steps, points, jumps, seed) => {
  const rng = randomState(seed);
  const draw = () => rng.normals(2 * points);
  const ts = angleTs(path, steps);
  const { sigma } = path.coefs(1);
  let x = draw().map((value) => sigma * value);
  for (let i = 1; i < ts.length; i++) {
    const [t, s] = [ts[i - 1], ts[i]];
    for (let jump = 0; jump < jumps; jump++) {
      x = stepUp(stepDown(law, method, y, noise, x, t, s, draw()), t, s, draw());
    }
    x = stepDown(law, method, y, noise, x, t, s, draw());
  }
  return x;
});

// The posterior of the second number given y = the first + noise: a mixture on a line.
function exactLaw({ weights, means, covs }, y, noise) {
  const logs = weights.map((weight, k) => {
    const seen = covs[k][0][0] + noise ** 2;
    return Math.log(weight) - Math.log(seen) / 2 - (y - means[k][0]) ** 2 / (2 * seen);
  });
  const top = Math.max(...logs);
  const shares = logs.map((value) => Math.exp(value - top));
  const total = shares.reduce((sum, value) => sum + value, 0);
  const gains = covs.map((cov) => cov[0][1] / (cov[0][0] + noise ** 2));
  return {
    weights: shares.map((value) => value / total),
    means: means.map((mean, k) => mean[1] + gains[k] * (y - mean[0])),
    variances: covs.map((cov, k) => cov[1][1] - gains[k] * cov[0][1]),
  };
}

function momentsOf({ weights, means, variances }) {
  const mean = weights.reduce((sum, weight, k) => sum + weight * means[k], 0);
  return [mean, weights.reduce((sum, weight, k) => sum + weight * (variances[k] + (means[k] - mean) ** 2), 0)];
}

function densityOf({ weights, means, variances }, u) {
  const bell = (k) => Math.exp(-((u - means[k]) ** 2) / (2 * variances[k])) / Math.sqrt(2 * Math.PI * variances[k]);
  return weights.reduce((sum, weight, k) => sum + weight * bell(k), 0);
}

function compute({ law, method, y, steps }, { laws, noises, names, points, jumps, seed }) {
  const noise = noises[method];
  const rounds = method === "repaint" ? jumps : 0;
  const ends = cloud(laws[law], method, y, noise, steps, points, rounds, seed);
  const second = ends.filter((_, i) => i % 2);
  const mean = second.reduce((sum, value) => sum + value, 0) / points;
  const variance = second.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (points - 1);
  const exact = exactLaw(laws[law], y, noise);
  const [exactMean, exactVariance] = momentsOf(exact);
  const numbers = {
    name: names[method], steps, y, noise, mean, variance, exact_mean: exactMean, exact_variance: exactVariance,
  };
  return { numbers, ends, second, exact };
}

function panels({ reach, laws, noises }, { law, method, y }, asking) {
  const plane = {
    name: "plane", label: "Level lines of the law in the plane, a vertical line at the observation, and the cloud of a method",
    x: [-reach, reach], y: [-reach, reach], xlabel: "first number", ylabel: "second number", aspect: 1,
  };
  const exact = exactLaw(laws[law], y, noises[method]);
  const top = Math.max(...linspace(-reach, reach, 241).map((u) => densityOf(exact, u)));
  const line = {
    name: "line", label: "Histogram of the second number in the cloud, and its exact posterior as a curve",
    x: [-reach, reach], y: [0, asking ? 1.25 * top : Math.max(1.5, 1.45 * top)], xlabel: "second number", ylabel: "density", aspect: 1,
  };
  return [plane, line];
}

const levelsOf = remember(({ weights, means, covs }, reach) => {
  const axis = linspace(-reach, reach, GRID);
  const nodes = Float64Array.from(Array.from(axis).flatMap((v) => Array.from(axis).flatMap((u) => [u, v])));
  const density = mixture(weights, means, covs).logProb(nodes).map(Math.exp);
  const top = density.reduce((a, b) => Math.max(a, b));
  return { axis, density, levels: LEVELS.map((part) => part * top) };
});

function drawLaw(panel, law, y, reach) {
  const { muted, vermilion } = panel.colours;
  const { axis, density, levels } = levelsOf(law, reach);
  panel.contour(density, axis, axis, levels, { colour: muted, width: 1.2 });
  panel.line([y, y], [-reach, reach], { colour: vermilion, width: 2 });
}

function drawExact(panel, exact, reach) {
  const axis = linspace(-reach, reach, 241);
  panel.line(axis, axis.map((u) => densityOf(exact, u)), { colour: panel.colours.text, width: 2 });
}

function drawMean(panel, mean, colour, words, row) {
  const height = panel.y[1] * (0.95 - 0.07 * row);
  panel.line([mean, mean], [0, panel.y[1] * 0.8], { colour, width: 1.5, dash: [5, 4] });
  panel.text(-2.9, height, `${words}: mean ${mean.toFixed(2).replace("-", "\u2212")}`, { colour, bold: true });
}

function draw({ plane, line }, { ends, second, exact, numbers }, { law, y }, { laws, reach, bins }) {
  drawLaw(plane, laws[law], y, reach);
  plane.points(ends, { colour: plane.colours.blue, size: 4, alpha: 0.6 });
  const width = (2 * reach) / bins;
  const counts = new Float64Array(bins);
  second.forEach((u) => {
    const bin = Math.floor((u + reach) / width);
    if (bin >= 0 && bin < bins) counts[bin] += 1 / (second.length * width);
  });
  line.bars(linspace(-reach, reach, bins + 1), counts, { colour: line.colours.sky });
  drawExact(line, exact, reach);
  drawMean(line, numbers.exact_mean, line.colours.text, "exact", 0);
  drawMean(line, numbers.mean, line.colours.blue, "cloud", 1);
}

// The law, the observation and the exact posterior, without a cloud.
function ask({ plane, line }, { exact, numbers }, { law, y }, { laws, reach }) {
  drawLaw(plane, laws[law], y, reach);
  drawExact(line, exact, reach);
  drawMean(line, numbers.exact_mean, line.colours.text, "exact", 0);
}

function handles(world, { y }) {
  const move = (px) => ({ y: Number((Math.round(Math.min(2, Math.max(-2, px)) * 20) / 20).toFixed(2)) });
  return [{ panel: "plane", x: y, y: 2.6, label: "Observed first number", text: y.toFixed(2), step: [0.05, 0], move }];
}

export default figure({ panels, compute, draw, ask, handles });
