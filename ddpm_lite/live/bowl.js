// Chapter 1: the negative log-likelihood of points on a line, over the mean and the standard deviation of a Gaussian.
import { linspace } from "./draw.js";
import { figure, remember } from "./figure.js";
import { mixture } from "./mixture.js";

const MEANS = linspace(-2, 2.6, 70);
const STDS = linspace(0.5, 3, 60);
const LINE = linspace(-5, 5, 201);

const gaussian = (mu, sigma) => mixture([1], [[mu]], [[[sigma ** 2]]]);

// Mean of -log N(x; mu, sigma^2) over the points, in nats.
const nll = (points, mu, sigma) => -mean(gaussian(mu, sigma).logProb(points));

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

const surface = remember((points) => {
  const values = new Float64Array(MEANS.length * STDS.length);
  STDS.forEach((sigma, j) => MEANS.forEach((mu, i) => (values[j * MEANS.length + i] = nll(points, mu, sigma))));
  return values;
});

function compute({ mu, sigma }, { points }) {
  const best_mu = mean(points);
  const best_sigma = Math.sqrt(mean(points.map((x) => (x - best_mu) ** 2)));
  const value = nll(points, mu, sigma);
  const numbers = {
    mu, sigma, nll: value, best_mu, best_sigma,
    least: nll(points, best_mu, best_sigma),
    log10_product: (-points.length * value) / Math.LN10,
  };
  return { numbers, bowl: surface(points), heights: gaussian(mu, sigma).logProb(LINE).map(Math.exp) };
}

function panels(data, state, asking) {
  const line = {
    name: "line", label: "The points on a line, and Gaussian densities over them",
    x: [-5, 5], y: [0, 0.82], xlabel: "x", ylabel: "density", aspect: asking ? 0.4 : 0.72,
  };
  const bowl = {
    name: "bowl", label: "Level lines of the negative log-likelihood over mean and standard deviation, with a handle",
    x: [-2, 2.6], y: [0.5, 3], xlabel: "mean \u03bc", ylabel: "standard deviation \u03c3", aspect: 0.72,
  };
  return asking ? [line] : [line, bowl];
}

const offers = (controls) => controls.find(({ kind }) => kind === "presets").options;

// The points and the curves on offer, without saying how they do.
function ask({ line }, world, state, { points, controls }) {
  const { blue, vermilion, green, text } = line.colours;
  line.segments(points.flatMap((x) => [x, 0, x, 0.04]), { colour: text, width: 2 });
  offers(controls).forEach(([name, { mu, sigma }], i) => {
    const colour = [vermilion, blue, green][i];
    line.line(LINE, gaussian(mu, sigma).logProb(LINE).map(Math.exp), { colour, dash: [[], [8, 4], [2, 4]][i] });
    const edge = [mu + sigma, mu - 1.3 * sigma, mu - sigma][i];
    const height = Math.exp(gaussian(mu, sigma).logProb(Float64Array.of(edge))[0]);
    line.text(edge, height, name, { colour, bold: true, dx: i === 0 ? 10 : -16, dy: -6 });
  });
}

function draw({ line, bowl }, world, { mu, sigma }, { points, controls }) {
  const { colours } = line;
  const heights = gaussian(mu, sigma).logProb(points).map(Math.exp);
  line.segments(points.flatMap((x, i) => [x, 0, x, heights[i]]), { colour: colours.vermilion, width: 2 });
  line.line(LINE, world.heights, { colour: colours.blue, width: 2.5 });
  const levels = Array.from({ length: 12 }, (_, i) => world.numbers.least + 0.02 * (i + 1) ** 2);
  bowl.contour(world.bowl, MEANS, STDS, levels, { colour: colours.muted, width: 1 });
  bowl.contour(world.bowl, MEANS, STDS, [world.numbers.nll], { colour: colours.blue, width: 2.5 });
  bowl.text(world.numbers.best_mu, world.numbers.best_sigma, "\u00d7", { align: "center", bold: true });
  for (const [name, { mu, sigma }] of offers(controls)) bowl.text(mu, sigma, name, { align: "center", bold: true });
}

function handles({ numbers }, { mu, sigma }) {
  const text = `mean ${mu.toFixed(2)}, standard deviation ${sigma.toFixed(2)}`;
  const move = (x, y) => ({ mu: Number(x.toFixed(2)), sigma: Number(y.toFixed(2)) });
  return [{ panel: "bowl", x: mu, y: sigma, label: "Mean and standard deviation", text, step: [0.05, 0.05], move }];
}

export default figure({ panels, compute, draw, ask, handles });
