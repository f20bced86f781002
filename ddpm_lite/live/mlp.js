// The small network of the package, ddpm_lite.nets.MLP, with the weights that pack.py packs.

// The bytes that pack_mlp made (a DataView) as numbers; dtype is "float32" or "float16".
export function decodeWeights(bytes, dtype) {
  const size = { float32: 4, float16: 2 }[dtype];
  if (!size) throw new Error(`dtype = ${dtype}: give "float32" or "float16"`);
  const read = size === 4 ? (at) => bytes.getFloat32(at, true) : (at) => halfFloat(bytes.getUint16(at, true));
  return Float32Array.from({ length: bytes.byteLength / size }, (_, i) => read(size * i));
}

function halfFloat(bits) {
  const [sign, exponent, fraction] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, (bits & 1023) / 1024];
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction);
}

// net(x, t, label): h_1 = SiLU(W_1 [x, waves(x), waves(t)] + b_1 + class), h_k = SiLU(W_k h_{k-1} + b_k),
// output W h_depth + b, from the config of pack_mlp and flat weights in the order of the model's parameters.
// x is flat, n * dim; t is one number; label is 0 to classes - 1, or nothing for "no class".
export function mlp(config, weights) {
  const { dim, width, depth, classes, coordinate_waves, time_waves, time_high } = config;
  let used = 0;
  const next = (size) => Float64Array.from(weights.subarray(used, (used += size)));
  const take = (rows, columns) => Array.from({ length: rows }, () => next(columns));
  const labels = take(classes ? classes + 1 : 0, width);
  const first = take(width, dim * (1 + coordinate_waves) + time_waves);
  const firstBias = next(width);
  const hidden = Array.from({ length: depth - 1 }, () => denseLayer(take(width, width), next(width)));
  const last = denseLayer(take(dim, width), next(dim));
  if (used !== weights.length) throw new Error(`weights has ${weights.length} numbers: config needs ${used}`);
  const pointOmega = frequencies(coordinate_waves / 2, 8);
  const timeOmega = frequencies(time_waves / 2, time_high);

  // The first layer on the features of a point; those of t and of the class, the same for all, join the bias.
  function firstLayer(t, label) {
    const ofTime = new Float64Array(time_waves);
    setWaves(ofTime, 0, t, timeOmega);
    const cut = first[0].length - time_waves;
    const bias = firstBias.map((value, o) => {
      const own = first[o].subarray(cut);
      return ofTime.reduce((sum, wave, i) => sum + own[i] * wave, value + (classes ? labels[label][o] : 0));
    });
    return denseLayer(first.map((row) => row.subarray(0, cut)), bias);
  }

  return (x, t, label = classes) => {
    if (x.length % dim) throw new Error(`x has ${x.length} numbers: give ${dim} for each point`);
    if (!(label >= 0 && label <= classes)) throw new Error(`label = ${label}: give 0 to ${classes}`);
    const layer = firstLayer(t, label);
    let h = dense(layer, pointFeatures(x, dim, pointOmega, layer.inputs));
    for (const later of [...hidden, last]) h = dense(later, silu(h));
    return Float64Array.from(x, (_, i) => h[Math.floor(i / dim) * last.outputs + (i % dim)]);
  };
}

// w_k = high^((k-1)/(K-1)), K numbers, rounded to float32 as in the package.
function frequencies(count, high) {
  return Float64Array.from({ length: count }, (_, k) => Math.fround(high ** (k / Math.max(1, count - 1))));
}

// Writes cos(w_1 t), ..., cos(w_K t), sin(w_1 t), ..., sin(w_K t) from out[at] on.
function setWaves(out, at, t, omega) {
  for (let k = 0; k < omega.length; k++) {
    out[at + k] = Math.cos(omega[k] * t);
    out[at + omega.length + k] = Math.sin(omega[k] * t);
  }
}

// [x, waves of each coordinate] of every point, `stride` apart, padded to a multiple of 4 points.
function pointFeatures(x, dim, omega, stride) {
  const n = x.length / dim;
  const out = new Float64Array(4 * Math.ceil(n / 4) * stride);
  for (let i = 0; i < n; i++) {
    for (let a = 0; a < dim; a++) {
      const own = x[i * dim + a];
      out[i * stride + a] = own;
      setWaves(out, i * stride + dim + a * 2 * omega.length, own, omega);
    }
  }
  return out;
}

const evenSize = (size) => size + (size % 2);

// y = W x + b from the rows of W; outputs and inputs are padded with zeros to even numbers.
function denseLayer(rows, bias) {
  const [outputs, inputs] = [evenSize(rows.length), evenSize(rows[0].length)];
  const W = new Float64Array(outputs * inputs);
  rows.forEach((row, o) => W.set(row, o * inputs));
  const b = new Float64Array(outputs);
  b.set(bias);
  return { W, b, outputs, inputs };
}

// The layer on every row of x. Four points and two outputs at a time: eight sums stay in registers.
function dense({ W, b, outputs, inputs }, x) {
  const y = new Float64Array((x.length / inputs) * outputs);
  for (let x0 = 0, y0 = 0; x0 < x.length; x0 += 4 * inputs, y0 += 4 * outputs) {
    for (let o = 0; o < outputs; o += 2) {
      let u0 = b[o], u1 = u0, u2 = u0, u3 = u0;
      let v0 = b[o + 1], v1 = v0, v2 = v0, v3 = v0;
      for (let i = 0, at = o * inputs; i < inputs; i++, at++) {
        const u = W[at], v = W[at + inputs];
        const a0 = x[x0 + i], a1 = x[x0 + i + inputs];
        const a2 = x[x0 + i + 2 * inputs], a3 = x[x0 + i + 3 * inputs];
        u0 += u * a0; u1 += u * a1; u2 += u * a2; u3 += u * a3;
        v0 += v * a0; v1 += v * a1; v2 += v * a2; v3 += v * a3;
      }
      const to = y0 + o;
      y[to] = u0; y[to + outputs] = u1; y[to + 2 * outputs] = u2; y[to + 3 * outputs] = u3;
      y[to + 1] = v0; y[to + outputs + 1] = v1; y[to + 2 * outputs + 1] = v2; y[to + 3 * outputs + 1] = v3;
    }
  }
  return y;
}

function silu(h) {
  for (let i = 0; i < h.length; i++) h[i] /= 1 + Math.exp(-h[i]);
  return h;
}
