// Chapter 4: bend a vector field; the explicit and the implicit loss of score matching move together.
import { linspace } from "./draw.js";
import { figure, remember } from "./figure.js";
import { mixture } from "./mixture.js";

const LIMIT = 3.6; // the density is 0 to nine digits outside
const SEEN = [-2.4, 2.4];
const AXIS = linspace(...SEEN, 61);
const PLACES = linspace(-2.2, 2.2, 10);
const LONGEST = 0.5; // of an arrow, in data units
const TIP = 0.2; // data units for one unit of a bend
const [MOST, LEAST] = [40, -17]; // ends of the axes of the losses

const clip = (value, low, high) => Math.min(high, Math.max(low, value));

// Weights of Simpson's rule on an odd number of even points, a width h apart.
function simpson(n, h) {
  return Float64Array.from({ length: n }, (_, i) => ((i === 0 || i === n - 1 ? 1 : i % 2 ? 4 : 2) * h) / 3);
}

// Trace of the Jacobian of a mixture's score: sum_k r_k (|u_k|^2 - tr C_k^-1) - |sum_k r_k u_k|^2, with u_k the score
// of component k and r_k its posterior weight.
function traces({ weights, means, covs }, x) {
  const out = new Float64Array(x.length / 2);
  const total = mixture(weights, means, covs);
  const [logProb, score] = [total.logProb(x), total.score(x)];
  weights.forEach((weight, k) => {
    const one = mixture([1], [means[k]], [covs[k]]);
    const [[[a, b], [c, d]], u, log] = [covs[k], one.score(x), one.logProb(x)];
    const precision = (a + d) / (a * d - b * c);
    for (let i = 0; i < out.length; i++) {
      const r = weight * Math.exp(log[i] - logProb[i]);
      out[i] += r * (u[2 * i] ** 2 + u[2 * i + 1] ** 2 - precision);
    }
  });
  return out.map((value, i) => value - score[2 * i] ** 2 - score[2 * i + 1] ** 2);
}

// Points x with what the losses need there: the true score, its trace, and the bumps with their slopes.
function known(x, world, { anchors, radius }) {
  const truth = mixture(world.weights, world.means, world.covs).score(x);
  const bumps = anchors.map(([a, b]) => Float64Array.from({ length: x.length / 2 }, (_, i) =>
    Math.exp(-((x[2 * i] - a) ** 2 + (x[2 * i + 1] - b) ** 2) / (2 * radius ** 2))));
  return { x, truth, traces: traces(world, x), bumps };
}

// Points with weights p dx, over the plane or over its part right of the cut, and points of the cut with p dy.
const laid = remember((data, cut) => {
  const { world } = data;
  const from = cut ? data.cut : -LIMIT;
  const nx = 2 * Math.round((LIMIT - from) / 0.06) + 1;
  const [xs, ys] = [linspace(from, LIMIT, nx), linspace(-LIMIT, LIMIT, 121)];
  const across = simpson(nx, (LIMIT - from) / (nx - 1));
  const up = ys[1] - ys[0];
  const all = Float64Array.from(Array.from(ys).flatMap((y) => Array.from(xs).flatMap((x) => [x, y])));
  const logProb = mixture(world.weights, world.means, world.covs).logProb(all);
  const raw = logProb.map((log, i) => Math.exp(log) * across[i % nx] * up);
  const kept = Array.from(raw.keys()).filter((i) => raw[i] > 1e-13);
  const mass = raw.reduce((sum, w) => sum + w, 0);
  const points = known(Float64Array.from(kept.flatMap((i) => [all[2 * i], all[2 * i + 1]])), world, data);
  const side = Float64Array.from(Array.from(linspace(-LIMIT, LIMIT, 481)).flatMap((y) => [data.cut, y]));
  const density = mixture(world.weights, world.means, world.covs).logProb(side).map((log) => Math.exp(log));
  return {
    points, weights: kept.map((i) => raw[i] / mass),
    side: known(side, world, data), sideWeights: density.map((p) => (p * 2 * LIMIT) / 480 / mass),
  };
});

// The model: the true score, scaled and turned, and a bump at each anchor. At point i: [s1, s2, trace].
function field({ strength, turn, bends }, { anchors, radius }, { x, truth, traces, bumps }) {
  const angle = (turn * Math.PI) / 180;
  const [c, s] = [strength * Math.cos(angle), strength * Math.sin(angle)];
  return (i) => {
    const [u, v] = [truth[2 * i], truth[2 * i + 1]];
    let [s1, s2, trace] = [c * u - s * v, s * u + c * v, c * traces[i]];
    for (let k = 0; k < bumps.length; k++) {
      const [a, b, bump] = [bends[2 * k], bends[2 * k + 1], bumps[k][i]];
      const slope = a * (x[2 * i] - anchors[k][0]) + b * (x[2 * i + 1] - anchors[k][1]);
      s1 += a * bump;
      s2 += b * bump;
      trace -= (slope * bump) / radius ** 2;
    }
    return [s1, s2, trace];
  };
}

function compute(state, { world, anchors, radius, cut }) {
  const data = { world, anchors, radius, cut };
  const { points, weights, side, sideWeights } = laid(data, state.region === "cut");
  const model = field(state, data, points);
  let [explicit, implicit, constant, edge] = [0, 0, 0, 0];
  for (let i = 0; i < weights.length; i++) {
    const [s1, s2, trace] = model(i);
    const [u, v] = [points.truth[2 * i], points.truth[2 * i + 1]];
    explicit += (weights[i] * ((s1 - u) ** 2 + (s2 - v) ** 2)) / 2;
    implicit += weights[i] * (trace + (s1 ** 2 + s2 ** 2) / 2);
    constant += (weights[i] * (u ** 2 + v ** 2)) / 2;
  }
  const along = field(state, data, side);
  if (state.region === "cut") sideWeights.forEach((w, i) => (edge += w * along(i)[0]));
  return { numbers: { explicit, implicit, difference: explicit - implicit, constant, edge } };
}

const picture = remember((data) => {
  const grid = Float64Array.from(Array.from(AXIS).flatMap((y) => Array.from(AXIS).flatMap((x) => [x, y])));
  const places = Float64Array.from(Array.from(PLACES).flatMap((y) => Array.from(PLACES).flatMap((x) => [x, y])));
  const world = mixture(data.world.weights, data.world.means, data.world.covs);
  return { density: world.logProb(grid).map((log) => Math.exp(log)), arrows: known(places, data.world, data) };
});

// Vectors with their length turned into l / (1 + l / 8), times a scale: short ones keep it, long ones end at LONGEST.
function shortened(vectors) {
  return vectors.flatMap(([a, b]) => {
    const scale = LONGEST / (8 + Math.hypot(a, b));
    return [scale * a, scale * b];
  });
}

function panels(data, state, asking) {
  const field = {
    name: "field", label: "A density with four hills and a vector field over it, with four handles that bend the field",
    x: asking ? SEEN.map((x) => 1.3 * x) : SEEN, y: SEEN, xlabel: "x\u2081", ylabel: "x\u2082",
    aspect: asking ? 1 / 1.3 : 1,
  };
  const losses = {
    name: "losses", label: "The explicit loss against the implicit loss: a point, and the line on which the theorem puts it",
    x: [LEAST, MOST + LEAST], y: [0, MOST], xlabel: "implicit loss", ylabel: "explicit loss", aspect: 1,
  };
  return asking ? [field] : [field, losses];
}

// The density, the true score and the field, as the question shows them.
function ask({ field: panel }, world, state, { world: mix, anchors, radius, cut }) {
  drawField(panel, state, { world: mix, anchors, radius, cut });
}

function drawField(panel, state, data) {
  const { muted, blue, vermilion } = panel.colours;
  const { density, arrows } = picture(data);
  panel.contour(density, AXIS, AXIS, [0.02, 0.1, 0.25, 0.45], { colour: muted, width: 1, alpha: 0.6 });
  const model = field(state, data, arrows);
  const shown = (i) => state.region === "whole" || arrows.x[2 * i] > data.cut;
  const places = Array.from({ length: arrows.x.length / 2 }, (_, i) => i).filter(shown);
  const at = places.flatMap((i) => [arrows.x[2 * i], arrows.x[2 * i + 1]]);
  panel.quiver(at, shortened(places.map((i) => [arrows.truth[2 * i], arrows.truth[2 * i + 1]])), { colour: muted });
  panel.quiver(at, shortened(places.map((i) => model(i))), { colour: blue, width: 2, head: 5 });
  data.anchors.forEach(([x, y], k) => {
    panel.points([x, y], { colour: vermilion, size: 6, alpha: 1 });
    panel.segments([x, y, x + TIP * state.bends[2 * k], y + TIP * state.bends[2 * k + 1]], { colour: vermilion, width: 2.5 });
  });
  if (state.region === "cut") {
    panel.line([data.cut, data.cut], SEEN, { colour: vermilion, width: 2, dash: [6, 4] });
    panel.text(SEEN[0] + 0.1, SEEN[1] - 0.15, "no data left of the cut", { colour: vermilion });
  }
}

function draw({ field: left, losses }, { numbers }, state, { world, anchors, radius, cut }) {
  drawField(left, state, { world, anchors, radius, cut });
  const { muted, blue, vermilion, text } = losses.colours;
  const { explicit, implicit, constant } = numbers;
  losses.line([LEAST, MOST + LEAST], [LEAST + constant, MOST + LEAST + constant], { colour: muted, width: 2 });
  losses.text(MOST + LEAST - 1, 3, `line: explicit = implicit + ${constant.toFixed(2)}`, { align: "right" });
  losses.line([-constant, -constant], [0, MOST], { colour: muted, width: 1, dash: [2, 4] });
  const [x, y] = [clip(implicit, LEAST, MOST + LEAST), clip(explicit, 0, MOST)];
  losses.segments([x, y, clip(explicit - constant, LEAST, MOST + LEAST), y], { colour: vermilion, width: 3 });
  losses.points([x, y], { colour: text, size: 13, alpha: 1 });
  losses.points([x, y], { colour: blue, size: 10, alpha: 1 });
}

function handles(world, { bends }, { anchors }) {
  return anchors.map(([x, y], k) => {
    const move = (px, py) => ({
      bends: bends.map((bend, j) => {
        if (j === 2 * k) return Number(clip((px - x) / TIP, -4, 4).toFixed(2));
        return j === 2 * k + 1 ? Number(clip((py - y) / TIP, -4, 4).toFixed(2)) : bend;
      }),
    });
    const [a, b] = [bends[2 * k], bends[2 * k + 1]];
    const text = `${a.toFixed(2)} to the right, ${b.toFixed(2)} up`;
    const label = `Bend at (${x}, ${y})`;
    return { panel: "field", x: x + TIP * a, y: y + TIP * b, label, text, step: [0.04, 0.04], move };
  });
}

export default figure({ panels, compute, draw, ask, handles });
