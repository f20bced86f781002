// Chapter 9: the steps of four samplers beside the exact solution, by the number of evaluations and the grid.
import { figure, remember } from "./figure.js";
import { mixture } from "./mixture.js";
import { RectifiedFlow } from "./paths.js";
import { adams, angleTs, ddimStep, dpmpp2m, heunStep, iterate, karrasTs, linearTs } from "./samplers.js";

const COLOURS = { ddim: "vermilion", heun: "green", dpmpp_2m: "purple", adams: "blue" };
const DECADES = [-6, 1]; // of the errors shown
const path = RectifiedFlow();

const stepsOf = (sampler, evaluations) => (sampler === "heun" ? (evaluations + 1) / 2 : evaluations);

// The times of so many steps, from the common start to 0.
function grid(spacing, steps, { times, middle, loudest, quietest }) {
  const start = times[0];
  if (spacing === "linear") return linearTs(steps, start);
  if (spacing === "angle") return angleTs(path, steps, { middle, tMax: start });
  return karrasTs(path, steps, { sigmaMax: loudest, sigmaMin: quietest }).map((t, i) => (i ? t : start));
}

// The points of a sampler at every time of ts.
function states(sampler, ts, { law, exact, data_std }) {
  const { denoise } = mixture(law.weights, law.means, law.covs);
  const den = (x, t) => {
    const { alpha, sigma } = path.coefs(t);
    return denoise(x, alpha, sigma);
  };
  const x = Float64Array.from(exact[0]);
  const solvers = {
    ddim: () => iterate(ddimStep, den, path, x, ts),
    heun: () => iterate(heunStep, den, path, x, ts),
    dpmpp_2m: () => dpmpp2m(den, path, x, ts),
    adams: () => adams(den, path, x, ts, { dataStd: data_std }),
  };
  return Array.from(solvers[sampler]());
}

const rms = (values) => Math.sqrt(values.reduce((sum, v) => sum + v ** 2, 0) / values.length);
const distances = (points, { exact }) => Array.from(points, (x, i) => Math.abs(x - exact[exact.length - 1][i]));

// Errors of all samplers at all counts, on one grid.
const curves = remember((spacing, data) => {
  const errorOf = (sampler, n) => {
    const all = states(sampler, grid(spacing, stepsOf(sampler, n), data), data);
    return rms(distances(all[all.length - 1], data));
  };
  const curve = (sampler) => data.counts.map((n) => errorOf(sampler, n));
  return Object.fromEntries(Object.keys(COLOURS).map((sampler) => [sampler, curve(sampler)]));
});

function compute({ sampler, spacing, evaluations }, data) {
  const steps = stepsOf(sampler, evaluations);
  const ts = grid(spacing, steps, data);
  const all = states(sampler, ts, data);
  const away = distances(all[all.length - 1], data);
  const numbers = { evaluations, steps, error: rms(away), worst: Math.max(...away) };
  return { numbers, ts, all, curves: curves(spacing, data) };
}

function panels(data, state, asking) {
  const paths = {
    name: "paths", label: "Exact solutions from noise to data in grey, and the sampler's points with lines between them",
    x: [1, -0.03], xticks: [1, 0.8, 0.6, 0.4, 0.2, 0], y: [-3, 3.2], xlabel: "time t", ylabel: "x",
    aspect: asking ? 0.6 : 0.85,
  };
  const counts = [3, 5, 10, 20, 60];
  const decades = [0, -1, -2, -3, -4, -5, -6];
  const errors = {
    name: "errors", label: "Error at the end against the number of evaluations, for four samplers, on logarithmic axes",
    x: [Math.log10(2.7), Math.log10(68)], xticks: counts.map((n) => [Math.log10(n), String(n)]), y: DECADES,
    yticks: decades.map((d) => [d, d ? `10${superscript(d)}` : "1"]), xlabel: "evaluations",
    aspect: 0.85,
  };
  return asking ? [paths] : [paths, errors];
}

const superscript = (d) => `\u207b${"\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076"[-d]}`;

function drawPaths(panel, { ts, all }, colour, { times, exact }) {
  const { muted, text } = panel.colours;
  exact[0].forEach((_, i) => panel.line(times, exact.map((row) => row[i]), { colour: muted, width: 1.5 }));
  all[0].forEach((_, i) => panel.line(ts, all.map((x) => x[i]), { colour, width: 1 }));
  panel.points(all.flatMap((x, k) => Array.from(x).flatMap((value) => [ts[k], value])), { colour, size: 4, alpha: 1 });
  panel.text(0.97, 3, "grey: exact", { colour: text });
}

function draw({ paths, errors }, world, { sampler, evaluations }, data) {
  drawPaths(paths, world, paths.colours[COLOURS[sampler]], data);
  errors.text(Math.log10(62), 0.7, "error at the end", { align: "right" });
  const across = data.counts.map(Math.log10);
  const at = (values) => values.map((v) => Math.max(DECADES[0], Math.log10(v)));
  Object.entries(COLOURS).forEach(([name, hue], k) => {
    const [chosen, colour] = [name === sampler, errors.colours[hue]];
    const heights = at(world.curves[name]);
    errors.line(across, heights, { colour, width: chosen ? 3.5 : 1.5, dash: [[], [7, 4], [2, 3], [10, 3, 2, 3]][k] });
    errors.text(across[0] + 0.02, DECADES[0] + 0.4 + 0.45 * (3 - k), data.short[name], { colour, bold: chosen });
    if (!chosen) return;
    const i = data.counts.indexOf(evaluations);
    errors.points([across[i], heights[i]], { colour: errors.colours.text, size: 12, alpha: 1 });
    errors.points([across[i], heights[i]], { colour, size: 9, alpha: 1 });
  });
}

// DDIM's eleven steps of the question.
function ask({ paths }, world, state, data) {
  const start = { sampler: "ddim", spacing: "angle", evaluations: 11 };
  drawPaths(paths, compute(start, data), paths.colours[COLOURS.ddim], data);
}

export default figure({ panels, compute, draw, ask });
