// Chapter 12: a reverse chain of a digit, its estimate of the image, and the frequencies that are already fixed.
import { linspace } from "./draw.js";
import { figure, remember } from "./figure.js";

const SIDE = 8;
const HUES = ["blue", "green", "orange", "vermilion"];
const DASHES = [[], [8, 3], [3, 3], [8, 3, 2, 3]];

// The strength of the wave (k, l) in an image: its cosine transform, of length 1.
function wave(image, k, l) {
  const cosine = (m, i) => (m === 0 ? Math.SQRT1_2 : 1) * Math.cos((Math.PI * m * (i + 0.5)) / SIDE) / 2;
  let sum = 0;
  for (let i = 0; i < SIDE; i++) for (let j = 0; j < SIDE; j++) sum += cosine(k, i) * cosine(l, j) * image[i * SIDE + j];
  return sum;
}

// The squared size of an image in each band of radius sqrt(k^2 + l^2).
function bandPower(image, edges) {
  const sums = new Array(edges.length - 1).fill(0);
  for (let k = 0; k < SIDE; k++) {
    for (let l = 0; l < SIDE; l++) {
      const band = edges.findIndex((edge, i) => Math.hypot(k, l) >= edge && Math.hypot(k, l) < edges[i + 1]);
      if (band >= 0) sums[band] += wave(image, k, l) ** 2;
    }
  }
  return sums;
}

const minus = (a, b) => a.map((value, i) => value - b[i]);

// By band, the part of the end's difference from the mean image that an estimate has.
const shares = remember((estimate, end, mean, edges) => {
  const wrong = bandPower(minus(estimate, end), edges);
  return bandPower(minus(end, mean), edges).map((whole, i) => Math.max(0, 1 - wrong[i] / whole));
});

function compute({ chain, t }, { states, estimates, curves, mean, edges, bands }) {
  const last = curves.length - 1;
  const i = Math.floor((1 - t) * last + 0.5 + 1e-9);
  const images = { now: states[chain][i], estimate: estimates[chain][i], end: states[chain][last] };
  const fixed = shares(images.estimate, images.end, mean, edges);
  const many = curves[i].map((value) => Math.max(0, value));
  const numbers = { t: 1 - i / last };
  bands.forEach((name, b) => Object.assign(numbers, { [name]: fixed[b], [`mean_${name}`]: many[b] }));
  return { numbers, images, fixed, many };
}

function panels(data, { t }, asking) {
  const flat = { frame: false, aspect: 0.6, x: [0, 2], y: [-0.05, 1.2] };
  if (asking) return [{ ...flat, name: "images", label: "A noisy image and the end of its chain" }];
  return [
    { ...flat, name: "images", label: `The noisy image at t = ${t.toFixed(2)}, and the estimate of the end` },
    { name: "bars", label: "Share of the end that is fixed, by band", x: [0, 4], y: [0, 1.2], xticks: [], ylabel: "share fixed",
      yticks: [0, 0.5, 1], aspect: 0.66 },
    { ...flat, name: "ends", label: "The end of the chain, and what the estimate still has wrong" },
    { name: "curves", label: "Share fixed over time, mean over many chains", x: [1, 0], y: [0, 1.05], xlabel: "t",
      xticks: [1, 0.75, 0.5, 0.25, 0], yticks: [0, 0.5, 1], ylabel: "mean share", aspect: 0.66 },
  ];
}

function show(panel, i, image, words) {
  const pixels = image.map((value) => Math.min(1, Math.max(-1, value)));
  panel.image(pixels, SIDE, [i + 0.06, 0, i + 0.94, 1]);
  panel.text(i + 0.5, 1.1, words, { align: "center" });
}

// Before the prediction: noise and end only, not what happens between.
function ask({ images }, world, { chain }, { states, curves }) {
  show(images, 0, states[chain][0], "noise");
  show(images, 1, states[chain][curves.length - 1], "end of the chain");
}

function draw({ images, bars, ends, curves }, world, { t }, data) {
  show(images, 0, world.images.now, "x at time t");
  show(images, 1, world.images.estimate, "estimate of the end");
  show(ends, 0, world.images.end, "end of the chain");
  show(ends, 1, minus(world.images.estimate, world.images.end), "estimate \u2212 end");
  const times = linspace(1, 0, data.curves.length);
  data.bands.forEach((name, b) => {
    const colour = bars.colours[HUES[b]];
    bars.bars([b + 0.12, b + 0.88], [world.fixed[b]], { colour, alpha: 0.6 });
    bars.line([b + 0.12, b + 0.88], [world.many[b], world.many[b]], { colour: bars.colours.text, width: 2 });
    bars.text(b + 0.5, 1.1, name, { align: "center", bold: true });
    curves.line(times, data.curves.map((row) => Math.max(0, row[b])), { colour, dash: DASHES[b] });
    curves.line([0.97, 0.87], [1 - 0.1 * b, 1 - 0.1 * b], { colour, dash: DASHES[b] });
    curves.text(0.85, 1 - 0.1 * b, name);
  });
  curves.line([t, t], curves.y, { colour: curves.colours.text, width: 1, dash: [2, 3] });
}

export default figure({ panels, compute, draw, ask });
