// Chapter 6: plain and annealed Langevin side by side in a world of two far modes, with the exact score.
import { linspace } from "./draw.js";
import { figure, remember } from "./figure.js";
import { langevin } from "./mcmc.js";
import { mixture } from "./mixture.js";
import { randomState } from "./random.js";

const EDGE = [-12, 12];
const FIELD = linspace(-12, 12, 73);
const POINTS = Float64Array.from({ length: 2 * FIELD.length ** 2 }, (_, i) => {
  const place = i >> 1;
  return i % 2 ? FIELD[Math.floor(place / FIELD.length)] : FIELD[place % FIELD.length];
});
const BELOW = [0.5, 2, 4.5, 8]; // contours of log p below its top

const worldOf = remember((share, centre) => {
  const unit = [[1, 0], [0, 1]];
  return mixture([1 - share, share], [[-centre, -centre], [centre, centre]], [unit, unit]);
});

const rungs = (largest, smallest, levels) =>
  Array.from({ length: levels }, (_, i) => largest * (smallest / largest) ** (i / (levels - 1)));

const levelAt = (k, levels, steps) => Math.min(Math.floor(k / (steps / levels)), levels - 1);

// The draws of a seed: the square's uniforms, the normals of the annealed start, then the normals of each step.
const noises = remember((seed, n) => {
  const rng = randomState(seed);
  const start = Float64Array.from({ length: 2 * n }, () => 2 * rng.uniform() - 1);
  const normals = rng.normals(2 * n);
  const steps = [];
  const step = (k) => {
    while (steps.length <= k) steps.push(rng.normals(2 * n));
    return steps[k];
  };
  return { start, normals, step };
});

// The share of the particles on the side of the upper mode.
function upper(x) {
  let count = 0;
  for (let i = 0; i < x.length; i += 2) count += x[i] + x[i + 1] > 0;
  return count / (x.length / 2);
}

// Both swarms after 0, 1, ... steps; they take further steps when asked.
const swarms = remember(({ levels, largest, share }, data) => {
  const world = worldOf(share, data.centre);
  const noise = noises(data.seed, data.particles);
  const sigmas = rungs(largest, data.smallest, levels);
  const plain = [noise.start.map((u) => data.square * u)];
  const annealed = [noise.normals.map((z) => largest * z)];
  const shares = { plain: [upper(plain[0])], annealed: [upper(annealed[0])] };
  const move = (x, sigma, step, z) => {
    const next = langevin((y) => world.score(y, 1, sigma), x, { step, n: 1, rng: { normals: () => z } });
    return next.map((each) => Math.round(each * data.places) / data.places);
  };
  const advance = (n) => {
    for (let k = plain.length - 1; k < n; k++) {
      const sigma = sigmas[levelAt(k, levels, data.steps)];
      plain.push(move(plain[k], 0, data.rate, noise.step(k)));
      annealed.push(move(annealed[k], sigma, data.rate * (1 + sigma ** 2), noise.step(k)));
      shares.plain.push(upper(plain[k + 1]));
      shares.annealed.push(upper(annealed[k + 1]));
    }
  };
  return { plain, annealed, shares, sigmas, advance };
});

const settings = ({ seed, particles, steps, centre, square, rate, smallest, places }) =>
  ({ seed, particles, steps, centre, square, rate, smallest, places });

function compute({ n, levels, largest, share }, data) {
  const all = swarms({ levels, largest, share }, settings(data));
  all.advance(n);
  const level = levelAt(Math.max(0, n - 1), levels, data.steps);
  const sigma = all.sigmas[level];
  const numbers = {
    n, levels, sigma, level: level + 1, exact: share,
    plain: all.shares.plain[n], annealed: all.shares.annealed[n],
  };
  return { numbers, all, plain: all.plain[n], annealed: all.annealed[n] };
}

function panels(data, state, asking) {
  const plane = { x: EDGE, y: EDGE, xlabel: "x\u2081", ylabel: "x\u2082", aspect: 1 };
  const plain = { ...plane, name: "plain", label: "Particles of plain Langevin, over level lines of the density" };
  if (asking) return [plain];
  return [
    plain,
    { ...plane, name: "annealed", label: "Particles of annealed Langevin, over level lines of the noised density" },
    { name: "shares", label: "Share of the upper mode over the steps, of both swarms, beside the exact one",
      x: [0, 1.02 * data.steps], y: [0, 1], xlabel: "steps", ylabel: "upper share", aspect: 0.45 },
  ];
}

const levelLines = remember((share, centre, sigma) => {
  const logProb = worldOf(share, centre).logProb(POINTS, 1, sigma);
  const top = logProb.reduce((a, b) => Math.max(a, b));
  return { logProb, heights: BELOW.map((below) => top - below) };
});
const cleanLines = remember((share, centre) => levelLines(share, centre, 0));

function drawSwarm(panel, { logProb, heights }, points, colour, words) {
  panel.contour(logProb, FIELD, FIELD, heights, { colour: panel.colours.muted, width: 1 });
  panel.points(points, { colour, size: 3.5, alpha: 0.6 });
  panel.text(EDGE[0] + 0.5, EDGE[1] - 1, words, { colour, bold: true });
}

function drawShares(panel, { shares, sigmas }, { n, levels, share }, steps) {
  const { blue, vermilion, muted, text } = panel.colours;
  const each = steps / levels;
  const marks = sigmas.flatMap((_, i) => [i * each, 0, i * each, 0.03]);
  const times = Array.from({ length: n + 1 }, (_, k) => k);
  panel.segments(marks, { colour: muted, width: 1 });
  panel.line([0, steps], [share, share], { colour: text, width: 1.5, dash: [6, 4] });
  panel.line(times, shares.plain.slice(0, n + 1), { colour: vermilion, width: 2.5 });
  panel.line(times, shares.annealed.slice(0, n + 1), { colour: blue, width: 2.5 });
  panel.points([n, shares.plain[n]], { colour: vermilion, size: 8, alpha: 1 });
  panel.points([n, shares.annealed[n]], { colour: blue, size: 8, alpha: 1 });
  panel.text(0.98 * steps, share > 0.5 ? 0.08 : 0.93, "dashed: exact; ticks: levels", { align: "right" });
}

function draw({ plain, annealed, shares }, world, state, { centre, steps }) {
  const { vermilion, blue } = plain.colours;
  const { sigma } = world.numbers;
  drawSwarm(plain, cleanLines(state.share, centre), world.plain, vermilion, "plain");
  drawSwarm(annealed, levelLines(state.share, centre, sigma), world.annealed, blue, `annealed, noise ${sigma.toFixed(2)}`);
  drawShares(shares, world.all, state, steps);
}

// The square in which the particles begin.
function ask({ plain }, world, state, { centre, seed, particles, square }) {
  const start = noises(seed, particles).start.map((u) => square * u);
  drawSwarm(plain, cleanLines(0.8, centre), start, plain.colours.vermilion, "before the first step");
}

export default figure({ panels, compute, draw, ask });
