// Markov chains towards a density; states are flat, one chain after the other. Draws come from rng
// (random.js): in every step first all normals, x.length of them, then the uniforms, one a chain.

// n steps x <- x + step score(x) + sqrt(2 step) z, unadjusted Langevin dynamics.
export function langevin(score, x, { step, n, rng }) {
  checkChain(step, n);
  for (let i = 0; i < n; i++) x = langevinMove(x, score(x), step, rng.normals(x.length));
  return x;
}

// n steps of Metropolis-adjusted Langevin: y = x + step score(x) + sqrt(2 step) z, kept with probability
// min(1, p(y) q(x|y) / (p(x) q(y|x))). logProb gives a number a chain; a `mixture` is such a law.
// Returns { x, acceptance }: the states, and the share of proposals that each chain kept.
export function mala({ logProb, score }, x, { step, n, rng }) {
  checkChain(step, n);
  const at = { x: Float64Array.from(x), logP: logProb(x), slope: score(x) };
  const acceptance = new Float64Array(at.logP.length);
  for (let i = 0; i < n; i++) {
    const z = rng.normals(x.length);
    const y = langevinMove(at.x, at.slope, step, z);
    const to = { x: y, logP: logProb(y), slope: score(y) };
    logRatios(at, to, step, z).forEach((ratio, chain) => {
      const kept = Math.log(1 - rng.uniform()) <= ratio;
      if (kept) takeOver(at, to, chain);
      acceptance[chain] += kept / n;
    });
  }
  return { x: at.x, acceptance };
}

function langevinMove(x, score, step, z) {
  const y = new Float64Array(x.length);
  for (let i = 0; i < x.length; i++) y[i] = x[i] + step * score[i] + Math.sqrt(2 * step) * z[i];
  return y;
}

// log p(y) q(x|y) - log p(x) q(y|x) of every chain; `back` is the noise that would lead from y to x.
function logRatios(at, to, step, z) {
  const ratios = to.logP.map((logP, chain) => logP - at.logP[chain]);
  const dim = z.length / ratios.length;
  for (let i = 0; i < z.length; i++) {
    const back = (at.x[i] - to.x[i] - step * to.slope[i]) / Math.sqrt(2 * step);
    ratios[Math.floor(i / dim)] += (z[i] ** 2 - back ** 2) / 2;
  }
  return ratios;
}

// The chain takes over its proposal.
function takeOver(at, to, chain) {
  const dim = at.x.length / at.logP.length;
  const own = [chain * dim, (chain + 1) * dim];
  at.logP[chain] = to.logP[chain];
  at.x.set(to.x.subarray(...own), own[0]);
  at.slope.set(to.slope.subarray(...own), own[0]);
}

function checkChain(step, n) {
  if (!(step > 0 && n >= 1)) throw new Error(`step = ${step}, n = ${n}: give step > 0 and n >= 1`);
}
