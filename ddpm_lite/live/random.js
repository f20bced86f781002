// Seeded random numbers: the stream of numpy.random.RandomState(seed).

const SIZE = 624; // words of the state of the Mersenne Twister MT19937 (Matsumoto & Nishimura 1998)
const SHIFT = 397;

// The draws of a seed: uniform() is RandomState(seed).random_sample(), in [0, 1), and normals(n), a
// Float64Array, is standard_normal(n). Calls in any order give what the same calls of one RandomState give.
export function randomState(seed) {
  if (!Number.isInteger(seed) || seed < 0 || seed >= 2 ** 32) {
    throw new Error(`seed = ${seed}: give an integer from 0 to 2^32 - 1`);
  }
  const word = mersenneTwister(seed);
  const uniform = () => ((word() >>> 5) * 2 ** 26 + (word() >>> 6)) / 2 ** 53;
  let spare = null;

  // Box-Muller in its polar form makes two normals: the second one waits for the next call.
  const normal = () => {
    if (spare !== null) {
      const kept = spare;
      spare = null;
      return kept;
    }
    let x, y, square;
    do {
      x = 2 * uniform() - 1;
      y = 2 * uniform() - 1;
      square = x * x + y * y;
    } while (square >= 1 || square === 0);
    const factor = Math.sqrt((-2 * Math.log(square)) / square);
    spare = factor * x;
    return factor * y;
  };

  const normals = (n) => {
    if (!Number.isInteger(n) || n < 0) throw new Error(`n = ${n}: give the number of draws`);
    const z = new Float64Array(n);
    for (let i = 0; i < n; i++) z[i] = normal();
    return z;
  };
  return { uniform, normals };
}

// A function that returns the next 32 random bits.
function mersenneTwister(seed) {
  const state = new Uint32Array(SIZE);
  state[0] = seed;
  for (let i = 1; i < SIZE; i++) state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  let next = SIZE;

  const twist = () => {
    for (let i = 0; i < SIZE; i++) {
      const joined = (state[i] & 0x80000000) | (state[(i + 1) % SIZE] & 0x7fffffff);
      state[i] = state[(i + SHIFT) % SIZE] ^ (joined >>> 1) ^ (joined & 1 ? 0x9908b0df : 0);
    }
    next = 0;
  };
  return () => {
    if (next === SIZE) twist();
    let bits = state[next++];
    bits ^= bits >>> 11;
    bits ^= (bits << 7) & 0x9d2c5680;
    bits ^= (bits << 15) & 0xefc60000;
    return (bits ^ (bits >>> 18)) >>> 0;
  };
}
