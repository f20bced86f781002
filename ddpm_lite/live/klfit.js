// Chapter 2: one Gaussian q = N(mu, sigma^2) for a density p with two modes, by either KL divergence.
import { linspace } from "./draw.js";
import { figure, remember } from "./figure.js";
import { mixture } from "./mixture.js";

const KL_MEANS = linspace(-3, 3, 73);
const KL_STDS = linspace(0.2, 3, 57);
const KL_LINE = linspace(-5, 5, 401);
const KL_GRID = linspace(-27, 27, 901); // for quadrature: no q of the figure reaches its ends
const KL_STEPS = 400; // of the whole descent
const normalDensity = (x, mu, sigma) => Math.exp(-(((x - mu) / sigma) ** 2) / 2) / (sigma * Math.sqrt(2 * Math.PI));

// p on the grid, with the moments and the entropy that the forward divergence needs.
const knownDensity = remember((weights, modes, std) => {
  const p = mixture(weights, modes.map((m) => [m]), modes.map(() => [[std ** 2]]));
  const [logP, score, h] = [p.logProb(KL_GRID), p.score(KL_GRID), KL_GRID[1] - KL_GRID[0]];
  const over = (f) => h * logP.reduce((sum, value, i) => sum + Math.exp(value) * f(KL_GRID[i], value), 0);
  const mean = over((x) => x);
  return { h, logP, score, mean, variance: over((x) => (x - mean) ** 2), entropy: -over((x, value) => value) };
});

// E_q[f], f by the places of the grid.
function underQ({ h }, mu, sigma, f) {
  const first = Math.max(0, Math.floor((mu - 9 * sigma - KL_GRID[0]) / h));
  const last = Math.min(KL_GRID.length - 1, Math.ceil((mu + 9 * sigma - KL_GRID[0]) / h));
  let sum = 0;
  for (let i = first; i <= last; i++) sum += normalDensity(KL_GRID[i], mu, sigma) * f(i);
  return h * sum;
}

function reverseKL(p, mu, sigma) {
  return -Math.log(sigma) - Math.log(2 * Math.PI * Math.E) / 2 - underQ(p, mu, sigma, (i) => p.logP[i]);
}

function forwardKL({ mean, variance, entropy }, mu, sigma) {
  return Math.log(sigma) + Math.log(2 * Math.PI) / 2 + (variance + (mean - mu) ** 2) / (2 * sigma ** 2) - entropy;
}

const DIVERGENCES = { reverse: reverseKL, forward: forwardKL };

// The gradients by mu and log sigma; in reverse E[f'(z)] and sigma E[f'(z) (z - mu) / sigma], f' the score of p.
const SLOPES = {
  reverse: (p, mu, sigma) => [
    -underQ(p, mu, sigma, (i) => p.score[i]),
    -1 - underQ(p, mu, sigma, (i) => p.score[i] * (KL_GRID[i] - mu)),
  ],
  forward: ({ mean, variance }, mu, sigma) => [
    (mu - mean) / sigma ** 2,
    1 - (variance + (mean - mu) ** 2) / sigma ** 2,
  ],
};

// (mu, sigma) after 0, 1, ..., steps steps of gradient descent; a gradient longer than 1 is shortened to 1.
function descent(p, direction, mu, sigma, steps, rate) {
  const trace = [[mu, sigma]];
  for (let k = 0; k < steps; k++) {
    const [byMu, byLogSigma] = SLOPES[direction](p, mu, sigma);
    const step = rate / Math.max(1, Math.hypot(byMu, byLogSigma));
    [mu, sigma] = [mu - step * byMu, sigma * Math.exp(-step * byLogSigma)];
    trace.push([mu, sigma]);
  }
  return trace;
}

const leastKL = remember((direction, weights, modes, std, rate) => {
  const p = knownDensity(weights, modes, std);
  const at =
    direction === "forward"
      ? [p.mean, Math.sqrt(p.variance)]
      : descent(p, direction, modes[0], std, KL_STEPS, rate).at(-1);
  return { at, value: DIVERGENCES[direction](p, ...at) };
});

const klSurface = remember((direction, weights, modes, std) => {
  const p = knownDensity(weights, modes, std);
  const values = new Float64Array(KL_MEANS.length * KL_STDS.length);
  KL_STDS.forEach((sigma, j) =>
    KL_MEANS.forEach((mu, i) => (values[j * KL_MEANS.length + i] = DIVERGENCES[direction](p, mu, sigma))),
  );
  return values;
});

// All of the descent from a start: playing it only shows more of it.
const wholeDescent = remember((direction, mu, sigma, weights, modes, std, rate) =>
  descent(knownDensity(weights, modes, std), direction, mu, sigma, KL_STEPS, rate),
);

function compute({ direction, mu, sigma, steps }, { weights, modes, std, rate, controls }) {
  const p = knownDensity(weights, modes, std);
  const whole = steps ? wholeDescent(direction, mu, sigma, weights, modes, std, rate) : [[mu, sigma]];
  const trace = whole.slice(0, steps + 1);
  const [nowMu, nowSigma] = trace.at(-1);
  const { at, value } = leastKL(direction, weights, modes, std, rate);
  const numbers = {
    steps, mu: nowMu, sigma: nowSigma,
    reverse: reverseKL(p, nowMu, nowSigma), forward: forwardKL(p, nowMu, nowSigma),
    name: controls.find(({ name }) => name === "direction").options.find(([option]) => option === direction)[1],
    least: value, best_mu: at[0], best_sigma: at[1],
  };
  return { numbers, trace, surface: klSurface(direction, weights, modes, std) };
}

function panels(data, state, asking) {
  const line = {
    name: "line", label: "The density p with its two bumps, and the Gaussian q over it",
    x: [-5, 5], y: [0, 0.85], xlabel: "x", ylabel: "density", aspect: asking ? 0.4 : 0.72,
  };
  const valley = {
    name: "valley", label: "Level lines of the divergence over mean and standard deviation of q, with a handle",
    x: [-3, 3], y: [0.2, 3], xlabel: "mean \u03bc", ylabel: "standard deviation \u03c3", aspect: 0.72,
  };
  return asking ? [line] : [line, valley];
}

function drawDensity(line, { weights, modes, std }) {
  const heights = KL_LINE.map((x) => modes.reduce((sum, m, k) => sum + weights[k] * normalDensity(x, m, std), 0));
  line.line(KL_LINE, heights, { colour: line.colours.text, width: 2.5 });
  line.text(modes[0] + 1.2 * std, 0.42, "p", { bold: true });
}

const ask = ({ line }, world, state, data) => drawDensity(line, data);

function draw({ line, valley }, { numbers, trace, surface }, state, data) {
  const { blue, vermilion, muted } = line.colours;
  const { mu, sigma, least, best_mu, best_sigma } = numbers;
  drawDensity(line, data);
  line.line(KL_LINE, KL_LINE.map((x) => normalDensity(x, mu, sigma)), { colour: blue, width: 2.5, dash: [8, 4] });
  line.text(mu + 0.8 * sigma, normalDensity(0.8 * sigma, 0, sigma), "q", { colour: blue, bold: true, dx: 8, dy: -8 });
  const levels = Array.from({ length: 15 }, (_, i) => least + 0.06 * (i + 1) ** 2);
  valley.contour(surface, KL_MEANS, KL_STDS, levels, { colour: muted, width: 1 });
  const [mus, sigmas] = [0, 1].map((k) => trace.map((at) => at[k]));
  valley.line(mus, sigmas, { colour: vermilion, width: 2.5 });
  valley.text(best_mu, best_sigma, "\u00d7", { align: "center", bold: true });
}

function handles({ numbers: { mu, sigma } }) {
  const text = `mean ${mu.toFixed(2)}, standard deviation ${sigma.toFixed(2)}`;
  const move = (x, y) => ({ mu: Number(x.toFixed(2)), sigma: Number(y.toFixed(2)), steps: 0 });
  return [{ panel: "valley", x: mu, y: sigma, label: "Mean and standard deviation of q", text, step: [0.05, 0.05], move }];
}

export default figure({ panels, compute, draw, ask, handles });
