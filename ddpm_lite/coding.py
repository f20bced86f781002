"""Lossless coding: a stack of bits by rANS, and the bits-back code of a diffusion chain, with its actual length."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .paths import Path, posterior, transition
from .predict import DenoiseFn

__all__ = ["Bins", "Code", "Rans", "bits_back_decode", "bits_back_encode", "normal_code", "table_code"]

WORD = 32  # bits of a word of the stack, and of the counts: a probability is a count of 2^32
TOTAL = 1 << WORD
LOW = 1 << 2 * WORD  # the state stays in [2^64, 2^96)
STIR = 0x9E3779B97F4A7C15  # an odd number: multiplying by it modulo 2^64 has an inverse
UNSTIR = pow(STIR, -1, LOW)


class Code(NamedTuple):
    """A law of a whole number k in 0..size-1, in counts of 2^32: `below(k)` of them belong to smaller numbers.

    below(0) = 0, below(size) = 2^32, and below rises strictly: each k has a count of at least 1.   Book: ch. 16
    """

    size: int
    below: Callable[[int], int]


class Bins(NamedTuple):
    """`size` bins of one width from low to high; a bin's number stands for its centre.   Book: ch. 16"""

    low: float
    high: float
    size: int

    def edge(self, k: int) -> float:
        """The lower edge of bin k."""
        return self.low + (self.high - self.low) * k / self.size

    def centres(self, k: Tensor) -> Tensor:
        """The centres of bins k, any shape, in float64."""
        return self.low + (self.high - self.low) * (k.double() + 0.5) / self.size


class Rans:
    """A stack of bits: `push` puts a number on top, `pop` takes it off again. The last one in is the first one out.

    A number of probability p adds log2(1/p) bits, to about 2^-32 of a bit: the state, an integer, becomes
    (state // count) 2^32 + below + state % count; when it grows beyond 2^96 its last 32 bits move to a list of words.
    A `pop` is the inverse, so it takes log2(1/p) bits off. On random bits it draws k with probability p.

    words: what lies on the stack at the start, whole numbers below 2^32; random ones where a pop comes first.

    Source: Duda 2009 and 2014, "Asymmetric numeral systems".   Book: ch. 16
    """

    def __init__(self, words: Iterable[int] = ()) -> None:
        self.words = list(words)
        if not all(0 <= word < TOTAL for word in self.words):
            raise ValueError(f"words = {self.words[:4]}...: give whole numbers from 0 to 2^32 - 1")
        self.state = 1
        while self.state < LOW:
            self.state = (self.state << WORD) + (self.words.pop() if self.words else 0)

    @property
    def bits(self) -> int:
        """The length of all that lies on the stack."""
        return WORD * len(self.words) + self.state.bit_length()

    def push(self, k: int, code: Code) -> None:
        """Put k on the stack. Raises ValueError for a k that the code does not know."""
        if not 0 <= k < code.size:
            raise ValueError(f"k = {k}: this code has the numbers from 0 to {code.size - 1}")
        below = code.below(k)
        count = code.below(k + 1) - below
        if self.state >= count << 2 * WORD:
            self.words.append(self.state % TOTAL)
            self.state >>= WORD
        whole, rest = divmod(self.state, count)
        self.state = (whole << WORD) + below + rest

    def pop(self, code: Code) -> int:
        """Take a number off the stack. Raises IndexError when the words are used up."""
        whole, slot = divmod(self.state, TOTAL)
        k = bisect_right(range(code.size), slot, key=code.below) - 1
        below = code.below(k)
        state = whole * (code.below(k + 1) - below) + slot - below
        if state < LOW:
            if not self.words:
                raise IndexError("no words are left on the stack: start it with more initial words")
            state = (state << WORD) + self.words.pop()
        self.state = state
        return k

    def stir(self) -> None:
        """Mix the lower 64 bits of the state, so that the next pop does not depend on the number pushed last.

        Without it the noise of a bits-back code follows the data below it: the code stays exact but becomes longer, the
        more so the fewer numbers a layer has.
        """
        high, low = divmod(self.state, LOW)
        self.state = high * LOW + _swap(low * STIR % LOW)

    def unstir(self) -> None:
        """The inverse of `stir`."""
        high, low = divmod(self.state, LOW)
        self.state = high * LOW + _swap(low) * UNSTIR % LOW

    def tobytes(self) -> bytes:
        """The stack as a file has it: the words, then the 12 bytes of the state."""
        return b"".join(word.to_bytes(4, "big") for word in self.words) + self.state.to_bytes(12, "big")

    @classmethod
    def frombytes(cls, content: bytes) -> Rans:
        """The stack that `tobytes` wrote."""
        if len(content) < 12 or len(content) % 4:
            raise ValueError(f"content has {len(content)} bytes: give what tobytes returned, 12 or more by steps of 4")
        stack = cls()
        stack.words = [int.from_bytes(content[i : i + 4], "big") for i in range(0, len(content) - 12, 4)]
        stack.state = int.from_bytes(content[-12:], "big")
        return stack


def _swap(low: int) -> int:
    """The two halves of 64 bits, exchanged."""
    return low % TOTAL * TOTAL + low // TOTAL


def table_code(probs: Sequence[float]) -> Code:
    """The code of a table of probabilities, each rounded to a count of 2^32, and at least 1.

    Raises ValueError unless the probabilities are not negative and sum to 1.   Book: ch. 16
    """
    if not (min(probs) >= 0 and abs(math.fsum(probs) - 1) < 1e-6):
        raise ValueError(f"probs = {probs}: give numbers that are not negative and sum to 1")
    size, total, edges = len(probs), 0.0, []
    for k, p in enumerate(probs):
        edges.append(k + int((TOTAL - size) * min(total, 1.0)))
        total += p
    return Code(size, [*edges, TOTAL].__getitem__)


def normal_code(mean: float, std: float, bins: Bins) -> Code:
    """The code of a normal law in bins: the outer two hold the tails, and each bin has a count of at least 1.

    Raises ValueError unless std > 0.   Source: Ho et al. 2020, eq. 13.   Book: ch. 16
    """
    if not std > 0:
        raise ValueError(f"std = {std}: give a positive number")
    scale = -math.sqrt(0.5) / std

    def below(k: int) -> int:
        if k <= 0:
            return 0
        if k >= bins.size:
            return TOTAL
        return k + int((TOTAL - bins.size) * 0.5 * math.erfc(scale * (bins.edge(k) - mean)))

    return Code(bins.size, below)


def bits_back_encode(
    stack: Rans,
    den: DenoiseFn,
    path: Path,
    k: Tensor,
    ts: Tensor,
    *,
    data: Bins,
    latent: Bins,
) -> None:
    """Push one sample, bits-back, layer by layer: pop x_t by q(x_t | x_s), push x_s by p(x_s | x_t), for rising t.

    q is the forward chain; p(x_s | x_t) the `posterior` at the estimated x0, at the lowest level the normal law
    N(x0_hat, 1/SNR) in the bins of the data, above all N(0, sigma_T^2). The stack grows by
    -log2 p(x, latents)/q(latents | x), whose mean is the variational bound of this chain. It lends the bits of
    two layers at most, which must be there at the start.

    k: whole numbers, (*shape), the bins of one sample; ts: (n,), rising in (0, 1]; data, latent: the bins of the data,
    and of every latent, which should be narrow for the smallest step of the chain. den must return the same numbers
    when it is called again: `bits_back_decode` needs that.

    Raises IndexError when the stack holds too few bits.
    Source: Townsend et al. 2019 (BB-ANS); Kingma et al. 2019 (Bit-Swap).   Book: ch. 16
    """
    chain = _Chain(den, path, ts, data, latent)
    for i in range(len(ts)):
        stack.stir()
        above = _pop(stack, chain.up(i, k))
        _push(stack, chain.down(i, above), k)
        k = above
    _push(stack, chain.top(k), k)


def bits_back_decode(
    stack: Rans, den: DenoiseFn, path: Path, shape: tuple[int, ...], ts: Tensor, *, data: Bins, latent: Bins
) -> Tensor:
    """The sample that `bits_back_encode` pushed last; the stack is then as it was before.   Book: ch. 16"""
    chain = _Chain(den, path, ts, data, latent)
    k = _pop(stack, chain.top(torch.zeros(shape)))
    for i in reversed(range(len(ts))):
        under = _pop(stack, chain.down(i, k))
        _push(stack, chain.up(i, under), k)
        stack.unstir()
        k = under
    return k


class Laws(NamedTuple):
    """Normal laws in bins, one for each number of a sample: mean (*shape), one std."""

    mean: Tensor
    std: float
    bins: Bins


class _Chain(NamedTuple):
    den: DenoiseFn
    path: Path
    ts: Tensor  # (n,), rising: layer i has the noise of ts[i]; under layer 0 lie the data
    data: Bins
    latent: Bins

    def up(self, i: int, k: Tensor) -> Laws:
        """q(x_i | what lies under it)."""
        x = (self.latent if i else self.data).centres(k)
        if i == 0:
            c = self.path.coefs(self.ts[0].double())
            return Laws(c.alpha * x, float(c.sigma), self.latent)
        alpha, var = transition(self.path, self.ts[i], self.ts[i - 1], x[None])
        return Laws((alpha * x[None])[0], float(var) ** 0.5, self.latent)

    def down(self, i: int, k: Tensor) -> Laws:
        """p(what lies under it | x_i)."""
        x, t = self.latent.centres(k)[None], self.ts[i]
        with torch.no_grad():
            x0 = self.den(x, t).x0
        if i == 0:
            return Laws(x0[0], math.exp(-float(self.path.lam(t))), self.data)
        mean, var = posterior(self.path, x0, x, t, self.ts[i - 1])
        return Laws(mean[0], float(var) ** 0.5, self.latent)

    def top(self, k: Tensor) -> Laws:
        """The prior of the last layer."""
        return Laws(torch.zeros(k.shape), float(self.path.coefs(self.ts[-1].double()).sigma), self.latent)


def _codes(laws: Laws) -> list[Code]:
    return [normal_code(mean, laws.std, laws.bins) for mean in laws.mean.flatten().tolist()]


def _push(stack: Rans, laws: Laws, k: Tensor) -> None:
    for one, code in reversed([*zip(k.flatten().tolist(), _codes(laws), strict=True)]):
        stack.push(one, code)


def _pop(stack: Rans, laws: Laws) -> Tensor:
    return torch.tensor([stack.pop(code) for code in _codes(laws)]).reshape(laws.mean.shape)
