// Chapter 16: two ways between two noises, their norms in d dimensions, and what the exact flow makes of them.
import { linspace } from "./draw.js";
import { figure, remember } from "./figure.js";
import { mixture } from "./mixture.js";
import { RectifiedFlow } from "./paths.js";
import { randomState } from "./random.js";
import { velocity } from "./samplers.js";

const POSITIONS = 101; // on each way
const MOST = 1022; // coordinates that are not seen
const STEPS = 200; // of the flow, from noise to data
const T_MIN = 1e-3; // where it ends
const VIEW = [-3, 3];
const LEVELS = [0.02, 0.1, 0.25, 0.45, 0.7];

const straight = RectifiedFlow();
const limited = (value) => Number(Math.min(2, Math.max(-2, value)).toFixed(2));
const worldOf = ({ weights, means, covs }) => mixture(weights, means, covs);
const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

// Both noises: their first two coordinates are given, the others drawn once for all d.
const drawRest = remember((seed) => {
  const z = randomState(seed).normals(2 * MOST);
  return [z.slice(0, MOST), z.slice(MOST)];
});

function noisesOf(ends, d, seed) {
  return drawRest(seed).map((rest, i) => [ends[2 * i], ends[2 * i + 1], ...rest.slice(0, d - 2)]);
}

// The factors of both noises at position u.
function factors(name, u, theta) {
  if (name === "lerp" || Math.sin(theta) < 1e-9) return [1 - u, u];
  return [Math.sin((1 - u) * theta) / Math.sin(theta), Math.sin(u * theta) / Math.sin(theta)];
}

// Points of the plane carried from t = 1 to T_MIN by steps of Runge and Kutta.
function decode(law, start) {
  const den = (x, t) => {
    const { alpha, sigma } = straight.coefs(t);
    return law.denoise(x, alpha, sigma);
  };
  const slope = (x, t) => velocity(den, straight, x, t);
  const times = linspace(1, T_MIN, STEPS + 1);
  let x = start;
  for (let i = 0; i < STEPS; i++) {
    const [t, h] = [times[i], times[i + 1] - times[i]];
    const moved = (k, part) => x.map((value, j) => value + part * h * k[j]);
    const k1 = slope(x, t);
    const k2 = slope(moved(k1, 0.5), t + h / 2);
    const k3 = slope(moved(k2, 0.5), t + h / 2);
    const k4 = slope(moved(k3, 1), t + h);
    x = x.map((value, j) => value + (h / 6) * (k1[j] + 2 * k2[j] + 2 * k3[j] + k4[j]));
  }
  return x;
}

// Each way at all positions: its norm over the root of d, its decoded points, their log-density.
const waysOf = remember((world, seed, ends, d) => {
  const [a, b] = noisesOf(ends, d, seed);
  const [aa, bb, ab] = [dot(a, a), dot(b, b), dot(a, b)];
  const theta = Math.acos(Math.min(1, Math.max(-1, ab / Math.sqrt(aa * bb))));
  const law = worldOf(world);
  const all = ["lerp", "slerp"].map((name) => {
    const shares = Array.from(linspace(0, 1, POSITIONS), (u) => factors(name, u, theta));
    const norm = shares.map(([p, q]) => Math.sqrt(Math.max(0, p * p * aa + q * q * bb + 2 * p * q * ab) / d));
    const z = Float64Array.from(shares.flatMap(([p, q]) => [p * a[0] + q * b[0], p * a[1] + q * b[1]]));
    const x = decode(law, z);
    return [name, { norm, z, x, logP: law.logProb(x) }];
  });
  return Object.fromEntries(all);
});

// Where 99 of 100 norms over the root of d lie.
export function shellOf(d) {
  const [centre, spread] = [1 - 2 / (9 * d), 2.5758 * Math.sqrt(2 / (9 * d))];
  return [Math.max(0, centre - spread) ** 1.5, (centre + spread) ** 1.5];
}

const densityOf = remember((world) => {
  const xs = linspace(...VIEW, 81);
  const points = Float64Array.from(Array.from(xs).flatMap((y) => Array.from(xs).flatMap((x) => [x, y])));
  return { xs, values: worldOf(world).logProb(points).map(Math.exp) };
});

function compute({ u, d, ends }, { world, seed }) {
  const ways = waysOf(world, seed, ends, d);
  const k = Math.round(u * (POSITIONS - 1));
  const numbers = { u, d };
  for (const [name, { norm, logP }] of Object.entries(ways)) {
    numbers[`${name}_norm`] = norm[k];
    numbers[`${name}_log_p`] = logP[k];
  }
  return { numbers, ways, k };
}

function panels(data, state, asking) {
  const over = {
    name: "over", label: "The norm over the root of d along both ways, and the band of typical norms",
    x: [0, 1], y: [0, 2], xlabel: "position u", ylabel: "norm / \u221ad", aspect: 1,
  };
  if (asking) return [{ ...over, label: "The norms of both ends, and the band of typical norms", aspect: 0.6 }];
  const plane = {
    name: "plane", label: "Level lines of the data, and both ways decoded into the plane",
    x: VIEW, y: VIEW, xlabel: "x\u2081", ylabel: "x\u2082", aspect: 1,
  };
  return [over, plane];
}

function drawShell(panel, d) {
  const [low, high] = shellOf(d);
  const { muted, text } = panel.colours;
  panel.bars([0, 1], [high], { colour: muted, alpha: 0.3, base: low, gap: 0 });
  panel.text(0.5, 1.88, `grey: 99 of 100 draws for d = ${d}`, { align: "center", colour: text });
}

function ask({ over }, { ways }, { d }) {
  const { norm } = ways.lerp;
  drawShell(over, d);
  over.points([0, norm[0], 1, norm[POSITIONS - 1]], { colour: over.colours.text, size: 10, alpha: 1 });
  over.text(0, norm[0], "a", { dx: 10, dy: 16, bold: true });
  over.text(1, norm[POSITIONS - 1], "b", { dx: -10, dy: 16, bold: true, align: "right" });
  over.text(0.5, 0.4, "where is (a + b)/2?", { align: "center", bold: true });
}

function draw({ plane, over }, { ways, k }, { d, ends }, { world }) {
  const { vermilion, blue, muted, text } = plane.colours;
  const { xs, values } = densityOf(world);
  plane.contour(values, xs, xs, LEVELS, { colour: muted, width: 1 });
  drawShell(over, d);
  const us = linspace(0, 1, POSITIONS);
  for (const [name, colour] of [["lerp", vermilion], ["slerp", blue]]) {
    const { x, norm } = ways[name];
    const dash = name === "lerp" ? [7, 4] : [];
    plane.line(us.map((_, i) => x[2 * i]), us.map((_, i) => x[2 * i + 1]), { colour, dash });
    plane.points(x.slice(2 * k, 2 * k + 2), { colour, size: 10, alpha: 1 });
    over.line(us, norm, { colour, dash });
    over.points([us[k], norm[k]], { colour, size: 10, alpha: 1 });
    over.text(0.5, norm[50], name, { colour, align: "center", dy: name === "lerp" ? 14 : -14 });
  }
  plane.points(ends, { colour: text, size: 6, alpha: 1 });
  plane.text(ends[0], ends[1], "noise a", { dx: 8, dy: 12 });
  plane.text(ends[2], ends[3], "noise b", { dx: 8, dy: -12 });
}

function handles(world, { ends }) {
  return [0, 1].map((i) => ({
    panel: "plane", x: ends[2 * i], y: ends[2 * i + 1], step: [0.05, 0.05],
    label: `First two coordinates of noise ${"ab"[i]}`,
    text: `${ends[2 * i].toFixed(2)}, ${ends[2 * i + 1].toFixed(2)}`,
    move: (x, y) => ({ ends: ends.map((old, j) => (j === 2 * i ? limited(x) : j === 2 * i + 1 ? limited(y) : old)) }),
  }));
}

export default figure({ panels, compute, draw, ask, handles });
