// A path is x_t = alpha x0 + sigma x1, data at t = 0 and noise at t = 1:
//   coefs(t)   { alpha, sigma, dalpha, dsigma }
//   lam(t)     log(alpha / sigma), half the log signal-to-noise ratio
//   tOf(lam)   the time of that ratio

const pathOf = (coefs, tOf) => ({ coefs, tOf, lam: (t) => lamOf(coefs(t)) });
const lamOf = ({ alpha, sigma }) => Math.log(alpha) - Math.log(sigma);
const logSigmoid = (x) => Math.min(x, 0) - Math.log1p(Math.exp(-Math.abs(x)));

// beta(t) = betaMin + slope t, B(t) = int_0^t beta, and t of B.
function linearRate(betaMin, betaMax) {
  const slope = betaMax - betaMin;
  return {
    beta: (t) => betaMin + slope * t,
    total: (t) => t * (betaMin + (slope / 2) * t),
    tOfTotal: (total) => (2 * total) / (betaMin + Math.sqrt(betaMin ** 2 + 2 * slope * total)),
  };
}

// Variance preserving: alpha = exp(-B/2), sigma^2 = 1 - exp(-B), beta(t) linear.
export function VP(betaMin = 0.1, betaMax = 20) {
  const { beta, total, tOfTotal } = linearRate(betaMin, betaMax);
  const coefs = (t) => {
    const [alpha, sigma] = [Math.exp(-total(t) / 2), Math.sqrt(-Math.expm1(-total(t)))];
    const dalpha = (-beta(t) / 2) * alpha;
    return { alpha, sigma, dalpha, dsigma: (-alpha * dalpha) / sigma };
  };
  return pathOf(coefs, (lam) => tOfTotal(-logSigmoid(2 * lam)));
}

// Below VP in variance: alpha = exp(-B/2), sigma = 1 - exp(-B).
export function SubVP(betaMin = 0.1, betaMax = 20) {
  const { beta, total, tOfTotal } = linearRate(betaMin, betaMax);
  const coefs = (t) => {
    const [alpha, sigma] = [Math.exp(-total(t) / 2), -Math.expm1(-total(t))];
    return { alpha, sigma, dalpha: (-beta(t) / 2) * alpha, dsigma: beta(t) * alpha ** 2 };
  };
  return pathOf(coefs, (lam) => tOfTotal(2 * Math.asinh(Math.exp(-lam) / 2)));
}

// A quarter circle: alpha = cos(pi t/2), sigma = sin(pi t/2); alpha(1) is exactly 0.
export function Cosine() {
  const half = Math.PI / 2;
  const coefs = (t) => {
    const [alpha, sigma] = [Math.sin(half * (1 - t)), Math.sin(half * t)];
    return { alpha, sigma, dalpha: -half * sigma, dsigma: half * alpha };
  };
  return pathOf(coefs, (lam) => Math.atan(Math.exp(-lam)) / half);
}

// Variance exploding: alpha = 1, sigma = sigmaMin (sigmaMax/sigmaMin)^t.
export function VE(sigmaMin = 0.01, sigmaMax = 50) {
  const rate = Math.log(sigmaMax / sigmaMin);
  const coefs = (t) => {
    const sigma = sigmaMin * Math.exp(rate * t);
    return { alpha: 1, sigma, dalpha: 0, dsigma: rate * sigma };
  };
  return pathOf(coefs, (lam) => (-lam - Math.log(sigmaMin)) / rate);
}

// Noise itself as the clock: alpha = 1, sigma = sigmaMax t.
export function EDM(sigmaMax = 80) {
  const coefs = (t) => ({ alpha: 1, sigma: sigmaMax * t, dalpha: 0, dsigma: sigmaMax });
  return pathOf(coefs, (lam) => Math.exp(-lam) / sigmaMax);
}

// A straight line: alpha = 1 - t, sigma = t.
export function RectifiedFlow() {
  const coefs = (t) => ({ alpha: 1 - t, sigma: t, dalpha: -1, dsigma: 1 });
  return pathOf(coefs, (lam) => 1 / (1 + Math.exp(lam)));
}

// DDPM's variances of the n noising steps, evenly spaced.
export function linearBetas(n = 1000, start = 1e-4, end = 0.02) {
  return Float64Array.from({ length: n }, (_, i) => start + ((end - start) * i) / Math.max(1, n - 1));
}

// Discrete DDPM: alpha^2 = prod_{j<=i} (1 - beta_j) at t = i/T, log alpha linear in between; the rest as VP.
export function BetaTable(betas) {
  const steps = betas.length;
  const fine = steps > 0 && betas.every((beta) => 0 < beta && beta < 1);
  if (!fine) throw new Error(`betas has ${steps} numbers: give at least one, each in (0, 1)`);
  const logAbar = new Float64Array(steps + 1);
  for (let i = 0; i < steps; i++) logAbar[i + 1] = logAbar[i] + Math.log1p(-betas[i]);
  const coefs = (t) => {
    const end = Math.ceil(t * steps - Number.EPSILON * steps); // i/T as computed may lie above the true one
    const i = Math.min(steps, Math.max(1, end));
    const slope = Math.log1p(-betas[i - 1]) * steps;
    const log = logAbar[i] + slope * (t - i / steps);
    const [alpha, sigma] = [Math.exp(log / 2), Math.sqrt(-Math.expm1(log))];
    return { alpha, sigma, dalpha: (slope / 2) * alpha, dsigma: ((-slope / 2) * alpha ** 2) / sigma };
  };
  const tOf = (lam) => {
    const log = logSigmoid(2 * lam);
    const found = logAbar.findIndex((value) => value <= log);
    const i = found < 0 ? steps : Math.max(1, found);
    return (i - (log - logAbar[i]) / (logAbar[i - 1] - logAbar[i])) / steps;
  };
  return pathOf(coefs, tOf);
}

// The forward SDE dx = f x dt + g dw: { f, g2 } with f = alpha'/alpha, g^2 = 2 sigma sigma' - 2 f sigma^2.
export function sde(path, t) {
  const { alpha, sigma, dalpha, dsigma } = path.coefs(t);
  if (alpha === 0) throw new Error(`t = ${t}: the SDE has no drift where alpha = 0; start at tMax = 0.999`);
  const f = dalpha / alpha;
  return { f, g2: 2 * sigma * (dsigma - f * sigma) };
}

// The step from s to the noisier t: q(x_t | x_s) = N(alphaTs x_s, varTs I), with
// alphaTs = alpha_t / alpha_s and varTs = -sigma_t^2 expm1(2 (lam_t - lam_s)).
export function transition(path, t, s) {
  if (!(s < t)) throw new Error(`s = ${s} is not below t = ${t}: s is the cleaner time`);
  const [ct, cs] = [path.coefs(t), path.coefs(s)];
  const varTs = -(ct.sigma ** 2) * Math.expm1(2 * (lamOf(ct) - lamOf(cs)));
  return { alphaTs: ct.alpha / cs.alpha, varTs };
}

// q(x_s | x_t, x0) = N(ofXt x_t + ofX0 x0, variance I) for s < t: ofXt = alphaTs sigma_s^2 / sigma_t^2,
// ofX0 = alpha_s varTs / sigma_t^2, variance = varTs sigma_s^2 / sigma_t^2.
export function posterior(path, t, s) {
  const { alphaTs, varTs } = transition(path, t, s);
  const { alpha, sigma } = path.coefs(s);
  const total = path.coefs(t).sigma ** 2;
  const [ofXt, ofX0] = [(alphaTs * sigma ** 2) / total, (alpha * varTs) / total];
  return { ofXt, ofX0, variance: (varTs * sigma ** 2) / total };
}
