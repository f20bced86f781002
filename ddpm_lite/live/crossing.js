// Chapter 14: lines of pairs that cross, the flow of their mean velocity that does not, and a few steps along it.
import { linspace } from "./draw.js";
import { figure, remember } from "./figure.js";
import { mixture } from "./mixture.js";

const SEEN = [-3.2, 3.4];
const ROOT = Math.sqrt(2);

// The error function's complement, to 1e-15: its series near 0, its continued fraction further out.
function erfc(x) {
  if (x < 0) return 2 - erfc(-x);
  if (x < 2.5) {
    let [term, sum] = [x, x];
    for (let k = 1; Math.abs(term) > 1e-17 * sum && k < 120; k++) {
      term *= -(x * x) / k;
      sum += term / (2 * k + 1);
    }
    return 1 - (2 / Math.sqrt(Math.PI)) * sum;
  }
  let fraction = x;
  for (let k = 60; k > 0; k--) fraction = x + k / 2 / fraction;
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / fraction;
}

const normalBelow = (z) => erfc(-z / ROOT) / 2;

// The mass of the data below x.
function dataBelow(x, { weights, means, covs }) {
  return weights.reduce((sum, w, k) => sum + w * normalBelow((x - means[k][0]) / Math.sqrt(covs[k][0][0])), 0);
}

// Squares of the binomials of batch - 1, times batch.
function binomialSquares(batch) {
  const squares = [];
  for (let k = 0, choose = 1; k < batch; k++) {
    squares.push(batch * choose ** 2);
    choose = (choose * (batch - 1 - k)) / (k + 1);
  }
  return squares;
}

// The factor by which sorted batches change the density of independent pairs, by their ranks a and b.
function sorting(a, b, squares) {
  const [up, down] = [a * b, (1 - a) * (1 - b)];
  return squares.reduce((sum, square, k) => sum + square * up ** k * down ** (squares.length - 1 - k), 0);
}

// What does not change with the place: the nodes, and there the density and the rank of data and of noise.
const tables = remember((law, [low, high, n]) => {
  const at = Float64Array.from(linspace(low, high, n));
  const data = { density: mixture(law.weights, law.means, law.covs).logProb(at, 1, 0).map(Math.exp), rank: at.map((x) => dataBelow(x, law)) };
  const noise = { density: at.map((x) => Math.exp(-(x ** 2) / 2)), rank: at.map(normalBelow) };
  return { at, data, noise };
});

// The mean of x1 - x0 over the pairs that pass each x at t.
function meanVelocity(x, t, batch, { law, nodes }) {
  const { at, data, noise } = tables(law, nodes);
  const { logProb } = mixture(law.weights, law.means, law.covs);
  const squares = binomialSquares(batch);
  const late = t >= 0.5; // then the nodes are data, else noise
  return x.map((place) => {
    const other = at.map((node) => (late ? (place - (1 - t) * node) / t : (place - t * node) / (1 - t)));
    const logs = late ? other.map((x1) => -(x1 ** 2) / 2) : logProb(other, 1, 0);
    const known = late ? data : noise;
    let [mass, sum] = [0, 0];
    at.forEach((node, i) => {
      const weight = known.density[i] * Math.exp(logs[i]);
      if (weight < 1e-30) return;
      const rank = late ? normalBelow(other[i]) : dataBelow(other[i], law);
      const share = weight * sorting(known.rank[i], rank, squares);
      mass += share;
      sum += share * (late ? other[i] - node : node - other[i]);
    });
    return sum / mass;
  });
}

const moved = (x, h, slope) => x.map((value, i) => value + h * slope[i]);

// The flow from t to s in one step of order 4; a step that lands on t = 0 is Ralston's of order 3.
function flowStep(x, t, s, field) {
  const h = s - t;
  const k1 = field(x, t);
  const k2 = field(moved(x, h / 2, k1), t + h / 2);
  if (s === 0) {
    const k3 = field(moved(x, (3 * h) / 4, k2), t + (3 * h) / 4);
    return x.map((value, i) => value + (h / 9) * (2 * k1[i] + 3 * k2[i] + 4 * k3[i]));
  }
  const k3 = field(moved(x, h / 2, k2), t + h / 2);
  const k4 = field(moved(x, h, k3), s);
  return x.map((value, i) => value + (h / 6) * (k1[i] + 2 * k2[i] + 2 * k3[i] + k4[i]));
}

const line = ({ starts, goals }, t) => Float64Array.from(goals, (x0, i) => x0 + t * (starts[i] - x0));

// The exact paths of one coupling, at pieces + 1 times from 1 to 0.
const flow = remember((coupling, data) => {
  const times = linspace(1, 0, data.pieces + 1);
  if (coupling === "reflow") return Array.from(times, (t) => line(data, t));
  const field = (x, t) => meanVelocity(x, t, data.batch[coupling], data);
  const states = [Float64Array.from(data.starts)];
  for (let k = 0; k < data.pieces; k++) states.push(flowStep(states[k], times[k], times[k + 1], field));
  return states;
});

// Euler's states. Reflow's pairs do not cross: a step stays on its line.
const euler = remember((coupling, steps, data) => {
  const times = linspace(1, 0, steps + 1);
  if (coupling === "reflow") return Array.from(times, (t) => line(data, t));
  const states = [Float64Array.from(data.starts)];
  for (let k = 0; k < steps; k++) {
    const speed = meanVelocity(states[k], times[k], data.batch[coupling], data);
    states.push(moved(states[k], times[k + 1] - times[k], speed));
  }
  return states;
});

// The pairs that are drawn: [data, noise], sorted in batches.
function pairs(coupling, { data, noise, ends, batch }) {
  if (coupling === "reflow") return [ends, noise];
  const size = batch[coupling];
  const sorted = (all) => {
    const parts = Array.from({ length: all.length / size }, (_, k) => all.slice(k * size, (k + 1) * size));
    return parts.flatMap((part) => part.sort((a, b) => a - b));
  };
  return [sorted(data), sorted(noise)];
}

function crossings([x0, x1]) {
  let count = 0;
  x0.forEach((a, i) => {
    for (let j = 0; j < i; j++) count += (a - x0[j]) * (x1[i] - x1[j]) < 0;
  });
  return count;
}

const meanSquare = (values) => values.reduce((sum, v) => sum + v ** 2, 0) / values.length;

// The mean square of the velocity's distance from the mean velocity of its path.
function straightness(states) {
  const last = states.length - 1;
  const bends = states.slice(1).map((x, k) => {
    return meanSquare(Array.from(x, (v, i) => last * (states[k][i] - v) - (states[0][i] - states[last][i])));
  });
  return bends.reduce((a, b) => a + b) / last;
}

function compute({ coupling, steps }, data) {
  const shown = pairs(coupling, data);
  const paths = flow(coupling, data);
  const states = euler(coupling, steps, data);
  const error = Math.sqrt(meanSquare(Array.from(states[steps], (x, i) => x - data.goals[i])));
  return { numbers: { steps, crossing: crossings(shown), bent: straightness(paths), error }, shown, paths, states };
}

function panels(data, state, asking) {
  const axes = { y: SEEN, xlabel: "time t", ylabel: "x", xticks: [1, 0.8, 0.6, 0.4, 0.2, 0] };
  const lines = {
    ...axes, name: "lines", label: "Straight lines that join pairs of noise and data", x: [1, 0], aspect: asking ? 0.6 : 0.9,
  };
  const paths = {
    ...axes, name: "paths", label: "Paths of the flow of the mean velocity, and Euler's steps along it", x: [1, -0.03],
    aspect: 0.9,
  };
  return asking ? [lines] : [lines, paths];
}

function drawPairs(panel, [x0, x1]) {
  const { blue, text } = panel.colours;
  x0.forEach((end, i) => panel.line([1, 0], [x1[i], end], { colour: blue, width: 1, alpha: 0.7 }));
  panel.text(0.97, 3.15, "lines of pairs", { colour: text });
}

function draw({ lines, paths }, { shown, paths: exact, states }, { steps }) {
  drawPairs(lines, shown);
  const { muted, vermilion, text } = paths.colours;
  const [fine, coarse] = [linspace(1, 0, exact.length), linspace(1, 0, steps + 1)];
  exact[0].forEach((_, i) => paths.line(fine, exact.map((x) => x[i]), { colour: muted, width: 2 }));
  states[0].forEach((_, i) => paths.line(coarse, states.map((x) => x[i]), { colour: vermilion, width: 1.2 }));
  const dots = states.flatMap((x, k) => Array.from(x).flatMap((value) => [coarse[k], value]));
  paths.points(dots, { colour: vermilion, size: 4, alpha: 1 });
  paths.text(0.97, 3.15, "grey: the flow; with dots: Euler", { colour: text });
}

// The lines of the question.
function ask({ lines }, world, state, data) {
  drawPairs(lines, pairs("independent", data));
}

export default figure({ panels, compute, draw, ask });
