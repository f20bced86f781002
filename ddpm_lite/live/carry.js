// Chapter 11: the probability-flow ODE carries a mesh of small squares from data to noise; one square is followed.
import { linspace } from "./draw.js";
import { figure, remember } from "./figure.js";
import { mixture } from "./mixture.js";
import { RectifiedFlow } from "./paths.js";
import { velocity } from "./samplers.js";

const SEEN = [-3, 3];
const STEPS = 100; // of the mesh, from t = 0 to 1
const FINE = 4; // steps of the followed square in each of them
const NODES = linspace(-2.4, 2.4, 49); // the corners of a cell, the middles of its sides and its centre are nodes
const RIM = [[-1, -1], [0, -1], [1, -1], [1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0]]; // around a cell's centre
const CENTRES = Array.from({ length: 24 ** 2 }, (_, k) => [2 * (k % 24) + 1, 2 * Math.floor(k / 24) + 1]);
const TINY = 1e-4; // half the side of the square whose area is measured
const SIDES = [[TINY, 0], [-TINY, 0], [0, TINY], [0, -TINY]];
const CIRCLES = [0.5, 1, 1.5, 2, 2.5]; // level lines of the noise

const path = RectifiedFlow();
const clip = (value, low, high) => Math.min(high, Math.max(low, value));
const lawOf = ({ weights, means, covs }) => mixture(weights, means, covs);
const nodeAt = (i, j) => 2 * (j * NODES.length + i);

// One Runge-Kutta step of order 4 of the flow, from t to s.
function rungeKutta(den, x, t, s) {
  const h = s - t;
  const from = (slope, part) => velocity(den, path, x.map((value, i) => value + part * h * slope[i]), t + part * h);
  const k1 = velocity(den, path, x, t);
  const k2 = from(k1, 0.5);
  const k3 = from(k2, 0.5);
  const k4 = from(k3, 1);
  return x.map((value, i) => value + (h / 6) * (k1[i] + 2 * k2[i] + 2 * k3[i] + k4[i]));
}

function denoiserOf(law) {
  return (x, t) => {
    const { alpha, sigma } = path.coefs(t);
    return law.denoise(x, alpha, sigma);
  };
}

// All nodes of the mesh, states[k] at t = k / STEPS, which are carried further when asked.
const mesh = remember((world) => {
  const den = denoiserOf(lawOf(world));
  const states = [Float64Array.from(Array.from(NODES).flatMap((y) => Array.from(NODES).flatMap((x) => [x, y])))];
  const carriedTo = (last) => {
    for (let k = states.length - 1; k < last; k++) {
      states.push(rungeKutta(den, states[k], k / STEPS, (k + 1) / STEPS));
    }
    return states[last];
  };
  return { carriedTo };
});

// The area of a tiny square around a point, relative to the start, from the four points beside it.
function areaOf(points) {
  const [right, left, up, down] = [2, 4, 6, 8].map((i) => [points[i], points[i + 1]]);
  const across = [right[0] - left[0], right[1] - left[1]];
  const along = [up[0] - down[0], up[1] - down[1]];
  return (across[0] * along[1] - across[1] * along[0]) / (4 * TINY ** 2);
}

// The square at every k / STEPS: its centre, its outline, log p_t at its centre and the log of its area.
const followed = remember((world, side, at) => {
  const law = lawOf(world);
  const den = denoiserOf(law);
  const offsets = [[0, 0], ...SIDES, ...RIM.map(([a, b]) => [(a * side) / 2, (b * side) / 2])];
  let points = Float64Array.from(offsets.flatMap(([a, b]) => [at[0] + a, at[1] + b]));
  const [centres, outlines, logP, logArea] = [[], [], [], []];
  for (let k = 0; k <= STEPS; k++) {
    const { alpha, sigma } = path.coefs(k / STEPS);
    centres.push(points.slice(0, 2));
    outlines.push(points.slice(10));
    logP.push(law.logProb(points.slice(0, 2), alpha, sigma)[0]);
    logArea.push(Math.log(areaOf(points)));
    const times = linspace(k / STEPS, (k + 1) / STEPS, FINE + 1);
    for (let i = 0; k < STEPS && i < FINE; i++) points = rungeKutta(den, points, times[i], times[i + 1]);
  }
  return { centres, outlines, logP, logArea, sum: logP.map((value, k) => value + logArea[k]) };
});

function compute({ t, at }, { world, side }) {
  const square = followed(world, side, at);
  const { logP, logArea, sum } = square;
  const k = Math.round(t * STEPS);
  const numbers = {
    t, log_p: logP[k], log_area: logArea[k], sum: sum[k],
    last_log_p: logP[STEPS], last_log_area: logArea[STEPS], log_p0: sum[STEPS],
  };
  return { numbers, square, k };
}

function panels({ world, side }, { at }, asking) {
  const plane = { x: SEEN, y: SEEN, xlabel: "x\u2081", ylabel: "x\u2082", aspect: 1 };
  const carried = {
    ...plane, name: "plane",
    label: "A mesh of small squares in the plane, darker where the density is high, with one square marked",
  };
  if (asking) {
    return [carried, { ...plane, name: "noise", label: "Level circles of the noise, and the point where the square arrives" }];
  }
  const { logP, logArea, sum } = followed(world, side, at);
  const all = [...logP, ...logArea, ...sum];
  const over = {
    name: "over", label: "The log-density at the square, the log of its area, and their sum, over time",
    x: [0, 1.03], y: [Math.floor(Math.min(...all)) - 0.5, Math.ceil(Math.max(...all)) + 0.5],
    xlabel: "time t", ylabel: "nats", xticks: [0, 0.2, 0.4, 0.6, 0.8, 1], aspect: 1,
  };
  return [carried, over];
}

// A polygon through the points x0, y0, x1, y1, ..., filled or as an outline.
function polygon(panel, flat, { colour, alpha = 1, width = 0 }) {
  panel.inside((c) => {
    Object.assign(c, { fillStyle: colour, strokeStyle: colour, globalAlpha: alpha, lineWidth: width });
    c.beginPath();
    for (let i = 0; i < flat.length; i += 2) c.lineTo(panel.px(flat[i]), panel.py(flat[i + 1]));
    c.closePath();
    if (width) c.stroke();
    else c.fill();
  });
}

// The mesh at t = k / STEPS: cells darker where the density is high, and its lines.
function drawMesh(panel, world, k) {
  const { blue, muted } = panel.colours;
  const { alpha, sigma } = path.coefs(k / STEPS);
  const x = mesh(world).carriedTo(k);
  const middles = Float64Array.from(CENTRES.flatMap(([i, j]) => [x[nodeAt(i, j)], x[nodeAt(i, j) + 1]]));
  const density = lawOf(world).logProb(middles, alpha, sigma).map(Math.exp);
  const top = density.reduce((a, b) => Math.max(a, b));
  CENTRES.forEach(([i, j], c) => {
    const rim = RIM.flatMap(([a, b]) => [x[nodeAt(i + a, j + b)], x[nodeAt(i + a, j + b) + 1]]);
    if (density[c] > 0.01 * top) polygon(panel, rim, { colour: blue, alpha: (0.6 * density[c]) / top });
  });
  for (let line = 0; line < NODES.length; line += 2) {
    for (const place of [(i) => nodeAt(i, line), (i) => nodeAt(line, i)]) {
      const nodes = Array.from(NODES.keys(), place);
      panel.line(nodes.map((n) => x[n]), nodes.map((n) => x[n + 1]), { colour: muted, width: 1, alpha: 0.5 });
    }
  }
}

function drawSquare(panel, { centres, outlines }, k) {
  const { vermilion, text } = panel.colours;
  const way = centres.slice(0, k + 1);
  panel.line(way.map(([x]) => x), way.map(([, y]) => y), { colour: text, width: 1.5 });
  if (k) polygon(panel, outlines[0], { colour: vermilion, width: 1.5 });
  polygon(panel, outlines[k], { colour: vermilion, alpha: 0.75 });
  polygon(panel, outlines[k], { colour: text, width: 1.5 });
}

// The data with the square, and the noise with the point where it arrives.
function ask({ plane, noise }, { square, numbers }, state, { world }) {
  const { vermilion, muted, blue } = noise.colours;
  drawMesh(plane, world, 0);
  drawSquare(plane, square, 0);
  plane.text(0, 2.75, `t = 0, data. At the square: density ${Math.exp(square.logP[0]).toFixed(2)}`, { align: "center" });
  const turn = linspace(0, 2 * Math.PI, 121);
  CIRCLES.forEach((r) => {
    noise.line(turn.map((a) => r * Math.cos(a)), turn.map((a) => r * Math.sin(a)), { colour: blue, width: 1, alpha: 0.7 });
  });
  noise.points(square.centres[STEPS], { colour: vermilion, size: 10, alpha: 1 });
  noise.text(0, 2.75, `t = 1, noise. At the dot: density ${Math.exp(numbers.last_log_p).toFixed(2)}`, { align: "center" });
  noise.text(...square.centres[STEPS], "area?", { colour: muted, bold: true, dx: 10 });
}

function draw({ plane, over }, { square, k }, { t }, { world }) {
  drawMesh(plane, world, k);
  drawSquare(plane, square, k);
  const { blue, vermilion, text } = over.colours;
  const times = linspace(0, 1, STEPS + 1).slice(0, k + 1);
  const lines = { logP: [blue, "log p"], logArea: [vermilion, "log area"], sum: [text, "sum"] };
  for (const [name, [colour, words]] of Object.entries(lines)) {
    const values = square[name];
    over.line(times, values.slice(0, k + 1), { colour, width: name === "sum" ? 3 : 2, dash: name === "sum" ? [7, 4] : [] });
    over.points([t, values[k]], { colour, size: 8, alpha: 1 });
    const [late, falls] = [t > 0.8, values[k] < values[Math.max(0, k - 5)]]; // so that no name lies on its line
    over.text(t, values[k], words, { colour, align: late ? "right" : "left", dx: late ? -8 : 8, dy: falls ? 13 : -13 });
  }
}

function handles(world, { at: [x, y] }) {
  const move = (px, py) => ({ at: [px, py].map((value) => Number(clip(value, -2, 2).toFixed(2))) });
  const text = `${x.toFixed(2)}, ${y.toFixed(2)}`;
  return [{ panel: "plane", x, y, label: "Place of the square in the data", text, step: [0.05, 0.05], move }];
}

export default figure({ panels, compute, draw, ask, handles });
