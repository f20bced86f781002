// A sampler is a step (den, path, x, t, s, options) -> x_s from t to the cleaner s, folded over falling
// times; a denoiser is (x, t) -> { x0, eps }. A step is given its noise, as many numbers as x has.

import { langevin } from "./mcmc.js";
import { posterior, sde, transition } from "./paths.js";

// The sum of weighted arrays: blend([a, x], [b, y]) is a x + b y.
function blend(...terms) {
  const sum = new Float64Array(terms[0][1].length);
  for (const [weight, values] of terms) {
    for (let i = 0; i < sum.length; i++) sum[i] += weight * values[i];
  }
  return sum;
}

function checkNoise(noise, x) {
  if (noise?.length === x.length) return noise;
  throw new Error(`noise has ${noise?.length ?? "no"} numbers: give ${x.length}, as many as x has`);
}

// DDIM: x_s = alpha_s x0 + sigma_s (sqrt(1 - r) eps + sqrt(r) z),  r = eta^2 varTs / sigma_t^2.
// eta = 0 takes no noise, and also runs from data to noise, s > t.
export function ddimStep(den, path, x, t, s, { eta = 0, noise } = {}) {
  if (!(0 <= eta && eta <= 1)) throw new Error(`eta = ${eta}: give 0 (deterministic) to 1 (DDPM)`);
  const { alpha, sigma } = path.coefs(s);
  const { x0, eps } = den(x, t);
  if (eta === 0) return blend([alpha, x0], [sigma, eps]);
  const r = (eta ** 2 * transition(path, t, s).varTs) / path.coefs(t).sigma ** 2;
  return blend([alpha, x0], [sigma * Math.sqrt(1 - r), eps], [sigma * Math.sqrt(r), checkNoise(noise, x)]);
}

// DDPM: a draw from q(x_s | x_t, x0) at the estimated x0, without noise where sigma_s = 0.
// variance: "posterior" is DDPM's beta-tilde, "forward" its beta.
export function ancestralStep(den, path, x, t, s, { variance = "posterior", noise } = {}) {
  const { ofXt, ofX0, variance: tilde } = posterior(path, t, s);
  const variances = { posterior: tilde, forward: transition(path, t, s).varTs };
  if (!(variance in variances)) throw new Error(`variance = ${variance}: give "posterior" or "forward"`);
  const std = path.coefs(s).sigma > 0 ? Math.sqrt(variances[variance]) : 0;
  return blend([ofXt, x], [ofX0, den(x, t).x0], [std, checkNoise(noise, x)]);
}

// The field of the probability-flow ODE: u = alpha' x0 + sigma' eps.
export function velocity(den, path, x, t) {
  const { dalpha, dsigma } = path.coefs(t);
  const { x0, eps } = den(x, t);
  return blend([dalpha, x0], [dsigma, eps]);
}

// Euler: x_s = x + (s - t) u(x, t). Order 1.
export function eulerStep(den, path, x, t, s) {
  return blend([1, x], [s - t, velocity(den, path, x, t)]);
}

// Heun: the mean of the slopes at both ends. Order 2; Euler where s = 0, where no field is defined.
export function heunStep(den, path, x, t, s) {
  const u = velocity(den, path, x, t);
  const guess = blend([1, x], [s - t, u]);
  if (s === 0) return guess;
  return blend([1, x], [(s - t) / 2, u], [(s - t) / 2, velocity(den, path, guess, s)]);
}

// Euler-Maruyama: x_s = x + (s - t) (f x - (1 + eta^2)/2 g^2 score) + eta g sqrt(t - s) z. eta = 1 is the reverse
// SDE, eta = 0 the probability-flow ODE, which takes no noise.
export function emStep(den, path, x, t, s, { eta = 1, noise } = {}) {
  if (!(eta >= 0)) throw new Error(`eta = ${eta}: give 0 (the ODE), 1 (the reverse SDE) or another number >= 0`);
  if (!(s < t)) throw new Error(`s = ${s} is not below t = ${t}: s is the cleaner time`);
  const { f, g2 } = sde(path, t);
  const h = t - s;
  const ofEps = ((-(1 + eta ** 2) / 2) * h * g2) / path.coefs(t).sigma; // score = -eps / sigma
  const mean = blend([1 - h * f, x], [ofEps, den(x, t).eps]);
  return eta === 0 ? mean : blend([1, mean], [eta * Math.sqrt(g2 * h), checkNoise(noise, x)]);
}

// Yields x at every time of ts, which fall. With rng, every step gets rng.normals(x.length) as its noise;
// other options go to every step.
export function* iterate(step, den, path, x, ts, { rng, ...options } = {}) {
  checkTimes(ts);
  yield x;
  for (let i = 1; i < ts.length; i++) {
    x = step(den, path, x, ts[i - 1], ts[i], { noise: rng?.normals(x.length), ...options });
    yield x;
  }
}

// DPM-Solver++(2M): x at every time of ts. x_s = (sigma_s / sigma_t) x - alpha_s expm1(-h) D,  h = lam_s - lam_t,
// D = x0 + h / (2 hBefore) (x0 - x0 before); D = x0 in the first step and in a step to sigma = 0. Order 2.
export function* dpmpp2m(den, path, x, ts) {
  checkTimes(ts);
  let before;
  yield x;
  for (let i = 1; i < ts.length; i++) {
    const [ct, cs] = [path.coefs(ts[i - 1]), path.coefs(ts[i])];
    const h = path.lam(ts[i]) - path.lam(ts[i - 1]);
    const { x0 } = den(x, ts[i - 1]);
    const more = before && cs.sigma > 0 ? h / (2 * before.h) : 0;
    const mean = more ? blend([1 + more, x0], [-more, before.x0]) : x0;
    x = blend([cs.sigma / ct.sigma, x], [-cs.alpha * Math.expm1(-h), mean]);
    before = { x0, h };
    yield x;
  }
}

// The package's default, Adams-Bashforth in the angle phi = atan(sigma / (sd alpha)): x at every time of ts.
// q = sqrt(sigma^2 + sd^2 alpha^2),  d(x/q)/dphi = -F,  F = (sigma x0 / sd - sd alpha eps) / q; the
// polynomial through the last `order` values of F is integrated exactly.
export function* adams(den, path, x, ts, { dataStd = 1, order = 5 } = {}) {
  checkTimes(ts);
  const coefs = Array.from(ts, (t) => path.coefs(t));
  const angle = coefs.map(({ alpha, sigma }) => Math.atan2(sigma, dataStd * alpha));
  const q = coefs.map(({ alpha, sigma }) => Math.hypot(sigma, dataStd * alpha));
  let past = [];
  yield x;
  for (let i = 0; i + 1 < ts.length; i++) {
    const { alpha, sigma } = coefs[i];
    const { x0, eps } = den(x, ts[i]);
    past = [...past, blend([sigma / (dataStd * q[i]), x0], [(-dataStd * alpha) / q[i], eps])].slice(-order);
    const weights = integralWeights(angle.slice(i + 1 - past.length, i + 1), angle[i + 1]);
    x = blend([q[i + 1] / q[i], x], ...past.map((F, j) => [-q[i + 1] * weights[j], F]));
    yield x;
  }
}

// Weights of the values at the nodes in the integral of their polynomial, from the last node to end.
function integralWeights(nodes, end) {
  const last = nodes[nodes.length - 1];
  const h = end - last;
  const z = nodes.map((node) => (node - last) / h);
  return z.map((own, j) => {
    let basis = [1]; // coefficients of prod_{k != j} (z - z_k) / (z_j - z_k), lowest power first
    z.forEach((other, k) => {
      if (k === j) return;
      const [shifted, same] = [[0, ...basis], [...basis, 0]];
      basis = shifted.map((value, power) => (value - other * same[power]) / (own - other));
    });
    return h * basis.reduce((sum, value, power) => sum + value / (power + 1), 0);
  });
}

// Annealed Langevin dynamics: n steps of `langevin` on p_t at every t of ts, of length step(coefs at t).
export function annealedLangevin(den, path, x, ts, { n, step, rng }) {
  for (const t of ts) {
    const coefs = path.coefs(t);
    x = langevin((y) => blend([-1 / coefs.sigma, den(y, t).eps]), x, { step: step(coefs), n, rng });
  }
  return x;
}

// n steps even in t, from tMax to tMin: n + 1 times.
export function linearTs(n, tMax = 1, tMin = 0) {
  if (!(Number.isInteger(n) && n >= 1)) throw new Error(`n = ${n}: give the number of steps, at least 1`);
  const fine = 0 <= tMin && tMin < tMax && tMax <= 1;
  if (!fine) throw new Error(`tMax = ${tMax}, tMin = ${tMin}: give 0 <= tMin < tMax <= 1`);
  return Float64Array.from({ length: n + 1 }, (_, i) => (1 - i / n) * tMax + (i / n) * tMin);
}

// EDM's levels as times: n levels of sigma/alpha, even in the power 1/rho, then t = 0.
export function karrasTs(path, n, { sigmaMax = 80, sigmaMin = 0.002, rho = 7 } = {}) {
  const [most, least] = [sigmaMax ** (1 / rho), sigmaMin ** (1 / rho)];
  return Float64Array.from({ length: n + 1 }, (_, i) =>
    i === n ? 0 : Math.min(1, path.tOf(-rho * Math.log(most + (i / Math.max(1, n - 1)) * (least - most)))));
}

// n steps graded at both ends in the angle psi = atan((sigma/alpha)/middle):
// psi = psiMin + (psiMax - psiMin) u^2 (3 - 2u), u even from 1 to 0.
export function angleTs(path, n, { middle = 0.5, tMax = 1, tMin = 0 } = {}) {
  const [psiMax, psiMin] = [tMax, tMin].map((t) => {
    const { alpha, sigma } = path.coefs(t);
    return Math.atan2(sigma, middle * alpha);
  });
  return linearTs(n, tMax, tMin).map((t, i) => {
    const u = 1 - i / n;
    const psi = psiMin + (psiMax - psiMin) * u ** 2 * (3 - 2 * u);
    return i === 0 || i === n ? t : path.tOf(-Math.log(middle * Math.tan(psi)));
  });
}

function checkTimes(ts) {
  for (let i = 1; i < ts.length; i++) {
    if (!(ts[i] < ts[i - 1])) throw new Error(`ts[${i}] = ${ts[i]} is not below ${ts[i - 1]}: let ts fall`);
  }
  if (!(ts.length > 1 && ts[0] <= 1 && ts[ts.length - 1] >= 0)) {
    throw new Error(`ts has ${ts.length} times from ${ts[0]}: give at least two, between 1 and 0`);
  }
}
