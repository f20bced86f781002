// Chapter 7: draw a noise schedule by hand; its signal-to-noise ratio, variance and a noised digit follow.
import { linspace } from "./draw.js";
import { figure, remember } from "./figure.js";
import { Cosine, RectifiedFlow, VP } from "./paths.js";
import { randomState } from "./random.js";

const ASKED = 0.25;
const RANGE = 5; // lam of the handles lies within -RANGE and RANGE
const ENDS = Math.log(1000) / 2; // lam where the SNR is 1000; minus this where it is 1/1000
const INSIDE = linspace(0.001, 0.999, 334);
const TIMES = [0.1, 0.25, 0.5, 0.75];
const NAMED = { VP: VP(), Cosine: Cosine(), RectifiedFlow: RectifiedFlow() };
const LOOKS = {
  VP: { words: "VP", colour: "blue", dash: [] },
  Cosine: { words: "cosine", colour: "vermilion", dash: [8, 4] },
  RectifiedFlow: { words: "straight line", colour: "green", dash: [8, 3, 2, 3] },
  yours: { words: "yours", colour: "purple", dash: [] },
};

const clip = (value, low, high) => Math.min(high, Math.max(low, value));
const sigmoid = (value) => 1 / (1 + Math.exp(-value));

// [value, slope] at t of the monotone cubic (PCHIP; Fritsch and Butland 1984) through values at even times
// from 0 to 1, none of them above the one before.
function falling(values) {
  const last = values.length - 1;
  const rises = Array.from({ length: last }, (_, i) => values[i + 1] - values[i]);
  const between = (a, b) => (a * b > 0 ? (2 * a * b) / (a + b) : 0);
  const end = (near, next) => Math.min(0, (3 * near - next) / 2);
  const inner = rises.slice(1).map((rise, i) => between(rises[i], rise));
  const slopes = [end(rises[0], rises[1]), ...inner, end(rises[last - 1], rises[last - 2])];
  return (t) => {
    const i = Math.min(last - 1, Math.floor(t * last));
    const u = t * last - i;
    const cubic = slopes[i] + slopes[i + 1] - 2 * rises[i];
    const square = rises[i] - slopes[i] - cubic;
    const value = values[i] + u * (slopes[i] + u * (square + u * cubic));
    return [value, last * (slopes[i] + u * (2 * square + 3 * u * cubic))];
  };
}

// The path of the handles: variance preserving, alpha^2 = sigmoid(2 lam), with lam the falling cubic.
function drawn(lams) {
  const at = falling(lams);
  const lam = (t) => at(t)[0];
  const coefs = (t) => {
    const [value, slope] = at(t);
    const [alpha, sigma] = [Math.sqrt(sigmoid(2 * value)), Math.sqrt(sigmoid(-2 * value))];
    return { alpha, sigma, dalpha: alpha * sigma ** 2 * slope, dsigma: -sigma * alpha ** 2 * slope };
  };
  return { coefs, lam, tOf: (value) => bisect(lam, value) };
}

// The t in [0, 1] where a falling function passes a value; an end where it never does.
function bisect(f, value) {
  let [low, high] = [0, 1];
  if (f(low) <= value) return low;
  for (let i = 0; i < 50; i++) {
    const middle = (low + high) / 2;
    if (f(middle) > value) low = middle;
    else high = middle;
  }
  return high;
}

// -1/2 int SNR' mse dt from first to last, for data N(0, 1): mse = 1 / (1 + SNR).
// Midpoint rule in sqrt(t - first), because the integrand is large at the start.
function collected({ coefs }, first, last, n = 2000) {
  let nats = 0;
  for (let i = 0; i < n; i++) {
    const u = (i + 0.5) / n;
    const { alpha, sigma, dalpha, dsigma } = coefs(first + (last - first) * u ** 2);
    const snr = (alpha / sigma) ** 2;
    const slope = 2 * snr * (dalpha / alpha - dsigma / sigma);
    nats -= ((slope / (1 + snr) / 2) * 2 * u * (last - first)) / n;
  }
  return nats;
}

const noise = remember((seed, n) => randomState(seed).normals(n));

// An image at a time of a path, alpha x0 + sigma eps, divided by alpha + sigma as in the chapter, and the SNR.
function noised({ coefs }, t, { image, seed }) {
  const { alpha, sigma } = coefs(t);
  const eps = noise(seed, image.length);
  const pixels = image.map((x0, k) => (alpha * x0 + sigma * eps[k]) / (alpha + sigma));
  return { pixels, snr: (alpha / sigma) ** 2 };
}

// Variance of alpha x0 + sigma eps, for data of this variance.
const spread = ({ alpha, sigma }, variance) => alpha ** 2 * variance + sigma ** 2;

function compute({ schedule, lams, t }, data) {
  const paths = { ...NAMED, yours: drawn(lams) };
  const path = paths[schedule];
  const { alpha, sigma } = path.coefs(t);
  const [most, least] = [path.lam(0), path.lam(1)].map((lam) => clip(lam, -ENDS, ENDS));
  const [first, last] = [path.tOf(most), path.tOf(least)];
  const numbers = {
    t, alpha, sigma,
    snr: (alpha / sigma) ** 2,
    lam: path.lam(t),
    variance: spread({ alpha, sigma }, data.variance),
    snr_max: Math.exp(2 * most),
    snr_min: Math.exp(2 * least),
    bound: collected(path, first, last),
    before: collected(path, first, clip(t, first, last)),
  };
  const now = Object.values(paths).map((each) => noised(each, t, data));
  const strip = TIMES.map((time) => noised(path, time, data));
  return { numbers, paths, path, now, strip };
}

function panels(data, { schedule, t }, asking) {
  const over = { x: [0, 1], xlabel: "t", xticks: [0, 0.25, 0.5, 0.75, 1], aspect: 0.66 };
  const flat = { frame: false, aspect: 0.375, x: [0, 4], y: [-0.25, 1.25] };
  if (asking) {
    return [
      { ...flat, name: "digit", label: "A handwritten digit without noise" },
      { ...over, name: "alphas", label: "The signal scale of three schedules", y: [0, 1.05], ylabel: "\u03b1" },
    ];
  }
  const { words } = LOOKS[schedule];
  return [
    { ...over, name: "lams", label: "Half the log-SNR over time, with handles", y: [-RANGE, RANGE],
      ylabel: "\u03bb = log(\u03b1/\u03c3)" },
    { ...over, name: "coefs", label: `Scales of signal and noise: ${words}`, y: [0, 2], ylabel: "scale" },
    { ...flat, name: "now", label: `The digit at t = ${t.toFixed(2)} under four schedules` },
    { ...flat, name: "strip", label: `The digit at four times: ${words}` },
  ];
}

// The digit and the three signal scales, without the noise.
function ask({ digit, alphas }, world, state, { image }) {
  const { colours } = alphas;
  digit.image(image, Math.sqrt(image.length), [1.25, -0.25, 2.75, 1.25]);
  for (const [name, { coefs }] of Object.entries(NAMED)) {
    alphas.line(INSIDE, INSIDE.map((t) => coefs(t).alpha), look(name, colours));
  }
  legend(alphas, Object.keys(NAMED));
  mark(alphas, ASKED);
}

const look = (name, colours) => ({ colour: colours[LOOKS[name].colour], dash: LOOKS[name].dash });

// The names of schedules with their lines, from the top right corner down.
function legend(panel, names) {
  const [low, high] = panel.y;
  names.forEach((name, i) => {
    const y = high - (high - low) * (0.04 + 0.1 * i);
    panel.line([0.56, 0.66], [y, y], look(name, panel.colours));
    panel.text(0.68, y, LOOKS[name].words);
  });
}

// A dotted line at a time.
function mark(panel, t) {
  panel.line([t, t], panel.y, { colour: panel.colours.text, width: 1, dash: [2, 3] });
}

function draw({ lams, coefs, now, strip }, { paths, path, ...digits }, { schedule, t }, { variance }) {
  const { colours } = lams;
  legend(lams, Object.keys(paths));
  for (const [name, { lam }] of Object.entries(paths)) {
    const width = name === schedule ? 3.5 : 1.3;
    lams.line(INSIDE, INSIDE.map((s) => lam(s)), { ...look(name, colours), width });
  }
  drawCoefs(coefs, path, look(schedule, colours).colour, variance);
  for (const panel of [lams, coefs]) mark(panel, t);
  Object.keys(paths).forEach((name, i) => {
    drawDigit(now, i, digits.now[i], LOOKS[name].words, { ...look(name, colours), bold: name === schedule });
  });
  TIMES.forEach((time, i) => drawDigit(strip, i, digits.strip[i], `t = ${time}`, look(schedule, colours)));
}

// alpha, sigma and the standard deviation of the book's mixture when it is noised.
function drawCoefs(panel, { coefs }, colour, variance) {
  const std = (c) => Math.sqrt(spread(c, variance));
  const curves = [
    { name: "\u03b1", at: 0.03, colour, dash: [], value: ({ alpha }) => alpha },
    { name: "\u03c3", at: 0.9, colour, dash: [7, 4], value: ({ sigma }) => sigma },
    { name: "std of the mixture", at: 0.03, colour: panel.colours.muted, dash: [2, 3], value: std },
  ];
  const along = Array.from(INSIDE, (t) => coefs(t));
  for (const { name, at, value, ...style } of curves) {
    const height = value(coefs(at));
    panel.line(INSIDE, along.map(value), style);
    panel.text(at, height, name, { ...style, bold: true, dy: at > 0.5 && height > 0.2 ? 14 : -12 });
  }
}

// The i-th image of a row, its name above and its SNR below.
function drawDigit(panel, i, { pixels, snr }, name, style) {
  panel.image(pixels, Math.sqrt(pixels.length), [i + 0.04, 0.04, i + 0.96, 0.96]);
  panel.text(i + 0.5, 1.12, name, { ...style, align: "center" });
  panel.text(i + 0.5, -0.12, told(snr), { align: "center" });
}

// "SNR 9.00" and the like, in few digits.
function told(snr) {
  if (snr < 0.001) return "SNR < 0.001";
  return `SNR ${snr < 100 ? snr.toPrecision(snr < 0.01 ? 2 : 3) : snr.toFixed(0)}`;
}

// A handle moves between its neighbours, so the SNR never rises; on a named schedule it begins a copy of it.
function handles({ path }, { schedule, lams }) {
  const times = linspace(0, 1, lams.length);
  const now = schedule === "yours" ? lams : Array.from(times, (t) => clip(path.lam(t), -RANGE, RANGE));
  return now.map((lam, i) => {
    const [floor, roof] = [now[i + 1] ?? -RANGE, now[i - 1] ?? RANGE];
    const move = (_, y) => ({ schedule: "yours", lams: now.with(i, clip(Number(y.toFixed(3)), floor, roof)) });
    const label = `\u03bb at t = ${times[i].toFixed(2)}`;
    const text = `\u03bb = ${lam.toFixed(2)}`;
    return { panel: "lams", x: times[i], y: lam, label, text, step: [0, 0.1], move };
  });
}

export default figure({ panels, compute, draw, ask, handles });
