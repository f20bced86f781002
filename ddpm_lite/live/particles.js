// Chapter 3: particles on an energy that the reader edits, by Langevin steps with or without MALA's test.
import { linspace } from "./draw.js";
import { figure, remember } from "./figure.js";
import { langevin, mala } from "./mcmc.js";
import { randomState } from "./random.js";

const LINE = linspace(-4.5, 4.5, 241);
const EDGES = linspace(-4.5, 4.5, 46);
const PLANE = linspace(-4, 4, 61);
const LEVELS = Array.from({ length: 16 }, (_, i) => i - 6);
const AXES = { line: linspace(-12, 12, 1601), plane: linspace(-12, 12, 161) };
const CENTRE = 3; // a centre lies within -CENTRE and CENTRE
const DEPTH = [-3, 5];
const RAIL = { dx: 0.9, scale: 0.3 }; // in the plane a depth is set on a rail beside its well

const clip = (value, low, high) => Math.min(high, Math.max(low, value));

// |x|^2/2 minus a bump of this depth at each centre, over the temperature: its density, up to Z, and its score.
// centres: one list a coordinate. Points are flat.
function boltzmann(centres, depth, temperature, width) {
  const dim = centres.length;
  const square = (x, i, k) => centres.reduce((sum, axis, d) => sum + (x[i + d] - axis[k]) ** 2, 0);
  const bump = (x, i, k) => (depth[k] ? depth[k] * Math.exp(-square(x, i, k) / (2 * width ** 2)) : 0);
  const energyAt = (x, i) => {
    let energy = 0;
    for (let d = 0; d < dim; d++) energy += x[i + d] ** 2 / 2;
    for (let k = 0; k < depth.length; k++) energy -= bump(x, i, k);
    return energy;
  };
  const energy = (x) => Float64Array.from({ length: x.length / dim }, (_, i) => energyAt(x, i * dim));
  const logProb = (x) => energy(x).map((each) => -each / temperature);
  const score = (x) => {
    const s = new Float64Array(x.length);
    for (let i = 0; i < x.length; i += dim) {
      for (let d = 0; d < dim; d++) s[i + d] = -x[i + d];
      for (let k = 0; k < depth.length; k++) {
        const pull = bump(x, i, k) / width ** 2;
        for (let d = 0; d < dim; d++) s[i + d] -= pull * (x[i + d] - centres[d][k]);
      }
    }
    return s.map((each) => each / temperature);
  };
  return { energy, logProb, score };
}

const centresOf = ({ dim, x, y }) => (dim === "line" ? [x] : [x, y]);
const lawOf = (state, { width }) => boltzmann(centresOf(state), state.depth, state.T, width);

// The draws of a seed: the start, then in each step the normals and the uniforms. They grow when asked for more.
const draws = remember((seed, n, dim, begin) => {
  const rng = randomState(seed);
  const start = rng.normals(n * dim).map((z) => begin + 0.2 * z);
  const steps = [];
  const step = (k) => {
    while (steps.length <= k) {
      const normals = rng.normals(n * dim);
      steps.push({ normals, uniforms: Float64Array.from({ length: n }, () => rng.uniform()) });
    }
    return steps[k];
  };
  return { start, step };
});

// Draws of one step, as the chains of mcmc.js take them.
function replay({ normals, uniforms }) {
  let next = 0;
  return { normals: () => normals, uniform: () => uniforms[next++] };
}

// All particles after k steps, states[k], which take further steps when asked; kept[k] is the sum of the shares.
const swarm = remember((state, data) => {
  const law = lawOf(state, data);
  const noise = draws(data.seed, data.particles[state.dim], centresOf(state).length, data.begin[state.dim]);
  const states = [noise.start];
  const kept = [0];
  const move = {
    langevin: (x, options) => ({ x: langevin(law.score, x, options), acceptance: [1] }),
    mala: (x, options) => mala(law, x, options),
  }[state.move];
  const advance = (n) => {
    for (let k = states.length - 1; k < n; k++) {
      const { x, acceptance } = move(states[k], { step: state.step, n: 1, rng: replay(noise.step(k)) });
      states.push(x.map((each) => Math.round(each * data.places) / data.places));
      kept.push(kept[k] + acceptance.reduce((sum, each) => sum + each, 0) / acceptance.length);
    }
  };
  return { states, kept, advance };
});

// The exact density of the first coordinate on a grid, its mean and variance, and Z: the midpoint rule.
const exact = remember((state, data) => {
  const axis = AXES[state.dim];
  const [m, width] = [axis.length, axis[1] - axis[0]];
  const law = lawOf(state, data);
  const sum = (values) => values.reduce((total, each) => total + each, 0);
  const weights = axis.map((x) => {
    if (state.dim === "line") return Math.exp(law.logProb(Float64Array.of(x))[0]);
    const column = Float64Array.from({ length: 2 * m }, (_, i) => (i % 2 ? axis[i >> 1] : x));
    return sum(law.logProb(column).map(Math.exp)) * width;
  });
  const Z = sum(weights) * width;
  const density = weights.map((each) => each / Z);
  const mean = sum(density.map((p, i) => p * axis[i])) * width;
  const variance = sum(density.map((p, i) => p * (axis[i] - mean) ** 2)) * width;
  return { axis, density, mean, variance, Z, top: density.reduce((a, b) => Math.max(a, b)) };
});

const WHAT = ["dim", "move", "step", "T", "x", "y", "depth"];
const SHAPE = ["dim", "T", "x", "y", "depth"];
const part = (state, names) => Object.fromEntries(names.map((name) => [name, state[name]]));
const settings = ({ seed, width, particles, begin, places }) => ({ seed, width, particles, begin, places });

const exactOf = (state, data) => exact(part(state, SHAPE), settings(data));

function compute(state, data) {
  const { dim, move, n } = state;
  const all = swarm(part(state, WHAT), settings(data));
  all.advance(n);
  const points = all.states[n];
  const truth = exactOf(state, data);
  const first = points.filter((_, i) => dim === "line" || i % 2 === 0);
  const mean = first.reduce((sum, x) => sum + x, 0) / first.length;
  const numbers = {
    n, mean,
    variance: first.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (first.length - 1),
    along: dim === "line" ? "" : " along the horizontal axis",
    exact_mean: truth.mean,
    exact_variance: truth.variance,
    Z: truth.Z,
    kept: move === "mala" && n ? ` MALA kept ${((100 * all.kept[n]) / n).toFixed(1)}% of the proposals.` : "",
  };
  return { numbers, points, first, truth, energy: lawOf(state, data).energy };
}

function panels(data, state, asking) {
  const line = {
    name: "line", label: "The energy on the line, with its wells as handles and the particles on it",
    x: [-4.5, 4.5], y: [-6, 9], xlabel: "x", ylabel: "energy", aspect: asking ? 0.45 : 0.85,
  };
  if (asking) return [line];
  const plane = {
    name: "plane", label: "Level lines of the energy in the plane, with its wells as handles, and the particles",
    x: [-4, 4], y: [-4, 4], xlabel: "x\u2081", ylabel: "x\u2082", aspect: 1,
  };
  const roof = Math.ceil(1.3 * exactOf(state, data).top * 5) / 5;
  const histogram = {
    name: "histogram", label: "Histogram of the particles, beside the exact Boltzmann density",
    x: [-4.5, 4.5], y: [0, roof], xlabel: state.dim === "line" ? "x" : "x\u2081", ylabel: "density",
    aspect: state.dim === "line" ? 0.85 : 1,
  };
  return state.dim === "line" ? [line, histogram] : [plane, histogram];
}

function drawLine(panel, energy, points) {
  const { vermilion, text } = panel.colours;
  const heights = energy(points);
  panel.line(LINE, energy(LINE), { colour: text, width: 2 });
  const lift = (i) => 0.3 + 1.7 * ((i * 0.618034) % 1); // so that no particle hides another
  const flat = Array.from(points).flatMap((x, i) => [x, heights[i] + lift(i)]);
  panel.points(flat, { colour: vermilion, size: 3.5, alpha: 0.5 });
}

const GRID = Float64Array.from({ length: 2 * PLANE.length ** 2 }, (_, i) => {
  const point = i >> 1;
  return i % 2 ? PLANE[Math.floor(point / PLANE.length)] : PLANE[point % PLANE.length];
});

function drawPlane(panel, energy, points, { x, y }) {
  const { vermilion, muted, blue } = panel.colours;
  panel.contour(energy(GRID), PLANE, PLANE, LEVELS, { colour: muted, width: 1 });
  panel.points(points, { colour: vermilion, size: 4, alpha: 0.5 });
  const rails = x.flatMap((_, k) => [0, 1].flatMap((end) => railAt(x[k], y[k], DEPTH[end])));
  panel.segments(rails, { colour: blue, width: 2 });
}

function drawHistogram(panel, { axis, density }, first) {
  const width = EDGES[1] - EDGES[0];
  const heights = new Float64Array(EDGES.length - 1);
  for (const x of first) heights[Math.floor((x - EDGES[0]) / width)] += 1 / (first.length * width);
  panel.bars(EDGES, heights, { colour: panel.colours.vermilion });
  panel.line(axis, density, { colour: panel.colours.text });
  panel.text(4.4, panel.y[1] * 0.96, "line: exact density", { align: "right" });
}

function draw({ line, plane, histogram }, { energy, points, first, truth }, state) {
  if (state.dim === "line") drawLine(line, energy, points);
  else drawPlane(plane, energy, points, state);
  drawHistogram(histogram, truth, first);
}

// The bowl, and where the particles begin.
function ask({ line }, world, state, data) {
  const bowl = lawOf({ dim: "line", x: [0], y: [0], depth: [0], T: 1 }, data).energy;
  drawLine(line, bowl, draws(data.seed, data.particles.line, 1, data.begin.line).start);
  line.text(0, 8, "E(x) = x\u00b2/2", { align: "center" });
}

const railAt = (x, y, depth) => [x + (x > CENTRE - 0.5 ? -RAIL.dx : RAIL.dx), y + RAIL.scale * depth];

const rounded = (value) => Number(value.toFixed(3));
const minus = (value) => value.toFixed(2).replace("-", "\u2212");

function handles({ energy }, state, { width }) {
  return state.dim === "line" ? onTheCurve(energy, state, width) : inThePlane(state);
}

// A handle is a point of the curve: moved sideways it shifts its well, up or down it changes the depth.
function onTheCurve(energy, { x, depth }, width) {
  return x.map((centre, k) => {
    const height = energy(Float64Array.of(centre))[0];
    const move = (to, level) => {
      const place = clip(rounded(to), -CENTRE, CENTRE);
      const others = boltzmann([x], depth.with(k, 0), 1, width).energy(Float64Array.of(place))[0];
      return { x: x.with(k, place), depth: depth.with(k, clip(rounded(others - level), ...DEPTH)) };
    };
    const text = `at ${minus(centre)}, energy ${minus(height)}`;
    return { panel: "line", x: centre, y: height, label: `Well ${k + 1}`, text, step: [0.1, 0.2], move };
  });
}

function inThePlane({ x, y, depth }) {
  const places = x.map((_, k) => {
    const inside = (value) => clip(rounded(value), -CENTRE, CENTRE);
    const move = (right, up) => ({ x: x.with(k, inside(right)), y: y.with(k, inside(up)) });
    const text = `at ${minus(x[k])}, ${minus(y[k])}`;
    return { panel: "plane", x: x[k], y: y[k], label: `Place of well ${k + 1}`, text, step: [0.1, 0.1], move };
  });
  const depths = x.map((_, k) => {
    const [right, up] = railAt(x[k], y[k], depth[k]);
    const move = (_, to) => ({ depth: depth.with(k, clip(rounded((to - y[k]) / RAIL.scale), ...DEPTH)) });
    const text = `depth ${minus(depth[k])}`;
    return { panel: "plane", x: right, y: up, label: `Depth of well ${k + 1}`, text, step: [0, 0.06], move };
  });
  return [...places, ...depths];
}

export default figure({ panels, compute, draw, ask, handles });
