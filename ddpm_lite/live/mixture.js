// A Gaussian mixture, known exactly under any noise.

// p(x) = sum_k w_k N(x; m_k, C_k), and the law of alpha x0 + sigma eps for x0 from p: m_k becomes alpha m_k,
// and C_k becomes S_k = alpha^2 C_k + sigma^2 I.
// weights: K numbers; means: K x dim; covs: K x dim x dim; points are flat, n * dim numbers.
//   logProb(x, alpha = 1, sigma = 0)  log p, n numbers, in nats
//   score(x, alpha = 1, sigma = 0)    its gradient
//   denoise(x, alpha, sigma)          { x0, eps }, the means of both given alpha x0 + sigma eps = x
//   sample(n, rng)                    n draws: first n uniforms that choose components, then n * dim normals
export function mixture(weights, means, covs) {
  const [k, dim] = checkMixture(weights, means, covs);
  const m = Float64Array.from(means.flat());
  const C = Float64Array.from(covs.flat(2));
  const r = new Float64Array(k); // posterior weights of the components for one point
  const away = new Float64Array(dim); // x - alpha m_k for one point and one component
  const pulls = new Float64Array(k * dim); // S_k^-1 (x - alpha m_k) for the same point

  // S_k^-1, and log w_k - log det(2 pi S_k) / 2.
  function noised(alpha, sigma) {
    const precision = new Float64Array(k * dim * dim);
    const logScale = new Float64Array(k);
    for (let c = 0; c < k; c++) {
      const S = C.slice(c * dim * dim, (c + 1) * dim * dim);
      for (let i = 0; i < S.length; i++) S[i] = alpha ** 2 * S[i] + (i % (dim + 1) === 0 ? sigma ** 2 : 0);
      const L = cholesky(S, dim);
      precision.set(inverseOf(L, dim), c * dim * dim);
      logScale[c] = Math.log(weights[c]) - (dim / 2) * Math.log(2 * Math.PI);
      for (let i = 0; i < dim; i++) logScale[c] -= Math.log(L[i * (dim + 1)]);
    }
    if (!logScale.every(Number.isFinite)) {
      throw new Error(`alpha = ${alpha}, sigma = ${sigma}: a component has no density; give sigma > 0`);
    }
    return { centres: m.map((value) => alpha * value), precision, logScale };
  }

  // Fills pulls and r for point i, and returns log p there.
  function weigh(x, i, { centres, precision, logScale }) {
    let top = -Infinity;
    for (let c = 0, at = 0; c < k; c++) {
      for (let a = 0; a < dim; a++) away[a] = x[i * dim + a] - centres[c * dim + a];
      let square = 0;
      for (let a = 0; a < dim; a++) {
        let pull = 0;
        for (let b = 0; b < dim; b++) pull += precision[at++] * away[b];
        pulls[c * dim + a] = pull;
        square += pull * away[a];
      }
      r[c] = logScale[c] - square / 2;
      if (r[c] > top) top = r[c];
    }
    let total = 0;
    for (let c = 0; c < k; c++) total += r[c] = Math.exp(r[c] - top);
    for (let c = 0; c < k; c++) r[c] /= total;
    return top + Math.log(total);
  }

  function logProb(x, alpha = 1, sigma = 0) {
    const law = noised(alpha, sigma);
    const out = new Float64Array(checkPoints(x, dim));
    for (let i = 0; i < out.length; i++) out[i] = weigh(x, i, law);
    return out;
  }

  // x0 = sum_k r_k (m_k + alpha C_k S_k^-1 (x - alpha m_k)) and pull = sum_k r_k S_k^-1 (x - alpha m_k).
  function average(x, alpha, sigma) {
    const law = noised(alpha, sigma);
    const n = checkPoints(x, dim);
    const [x0, pull] = [new Float64Array(n * dim), new Float64Array(n * dim)];
    for (let i = 0; i < n; i++) {
      weigh(x, i, law);
      for (let c = 0, at = 0; c < k; c++) {
        for (let a = 0; a < dim; a++) {
          let gain = 0;
          for (let b = 0; b < dim; b++) gain += C[at++] * pulls[c * dim + b];
          x0[i * dim + a] += r[c] * (m[c * dim + a] + alpha * gain);
          pull[i * dim + a] += r[c] * pulls[c * dim + a];
        }
      }
    }
    return { x0, pull };
  }

  const score = (x, alpha = 1, sigma = 0) => average(x, alpha, sigma).pull.map((value) => -value);

  function denoise(x, alpha, sigma) {
    const { x0, pull } = average(x, alpha, sigma);
    return { x0, eps: pull.map((value) => sigma * value) };
  }

  return { dim, logProb, score, denoise, sample: (n, rng) => drawMixture(n, rng, weights, m, C, dim) };
}

// n points m_c + L_c z, L_c L_c^T = C_c; c is the first whose cumulative weight exceeds the uniform.
function drawMixture(n, rng, weights, m, C, dim) {
  const factors = weights.map((_, c) => cholesky(C.subarray(c * dim * dim, (c + 1) * dim * dim), dim));
  const chosen = Array.from({ length: n }, () => {
    let [c, left] = [0, rng.uniform() - weights[0]];
    while (left >= 0 && c + 1 < weights.length) left -= weights[++c];
    return c;
  });
  const z = rng.normals(n * dim);
  return Float64Array.from(z, (_, at) => {
    const [i, a] = [Math.floor(at / dim), at % dim];
    let value = m[chosen[i] * dim + a];
    for (let b = 0; b <= a; b++) value += factors[chosen[i]][a * dim + b] * z[i * dim + b];
    return value;
  });
}

// L, lower triangular, with L L^T = S; a direction without variance gives a column of zeros.
function cholesky(S, dim) {
  const L = new Float64Array(dim * dim);
  for (let i = 0; i < dim; i++) {
    for (let j = 0; j <= i; j++) {
      let rest = S[i * dim + j];
      for (let l = 0; l < j; l++) rest -= L[i * dim + l] * L[j * dim + l];
      const pivot = L[j * dim + j];
      if (i === j) L[i * dim + i] = Math.sqrt(Math.max(0, rest));
      else L[i * dim + j] = pivot > 0 ? rest / pivot : 0;
    }
  }
  return L;
}

// (L L^T)^-1, by the columns of L^-1.
function inverseOf(L, dim) {
  const W = new Float64Array(dim * dim); // L^-1
  for (let j = 0; j < dim; j++) {
    for (let i = j; i < dim; i++) {
      let rest = i === j ? 1 : 0;
      for (let l = j; l < i; l++) rest -= L[i * dim + l] * W[l * dim + j];
      W[i * dim + j] = rest / L[i * dim + i];
    }
  }
  return W.map((_, at) => {
    const [i, j] = [Math.floor(at / dim), at % dim];
    let sum = 0;
    for (let l = Math.max(i, j); l < dim; l++) sum += W[l * dim + i] * W[l * dim + j];
    return sum;
  });
}

function checkMixture(weights, means, covs) {
  const [k, dim] = [weights.length, means[0]?.length];
  const square = (cov) => cov.length === dim && cov.every((row) => row.length === dim);
  const oneSize = means.every((mean) => mean.length === dim) && covs.every(square);
  if (means.length !== k || covs.length !== k || !oneSize) {
    throw new Error(`weights has ${k} numbers: give as many means of one size, and covs, K x dim x dim`);
  }
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  if (!(Math.abs(total - 1) < 1e-6) || !weights.every((weight) => weight > 0)) {
    throw new Error(`weights = ${weights}: give positive numbers that sum to 1`);
  }
  return [k, dim];
}

function checkPoints(x, dim) {
  if (x.length % dim) throw new Error(`x has ${x.length} numbers: give ${dim} for each point`);
  return x.length / dim;
}
