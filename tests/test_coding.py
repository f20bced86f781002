"""rANS against Shannon's lengths and against counting; bits-back against the variational bound by other means."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
import torch

import ddpm_lite as dl
from ddpm_lite.coding import TOTAL

TABLE = [0.5, 0.2, 0.05, 0.25]
WIDE = dl.Bins(-6.0, 6.0, 4096)


def words(n, seed=0):
    rng = random.Random(seed)
    return [rng.getrandbits(32) for _ in range(n)]


def probability(code, k):
    return (code.below(k + 1) - code.below(k)) / TOTAL


# --- the stack


def some_codes(seed, n):
    """Codes of both kinds with a number of each, unlikely ones among them."""
    rng = random.Random(seed)
    for _ in range(n):
        if rng.random() < 0.5:
            code = dl.table_code(TABLE)
        else:
            code = dl.normal_code(rng.gauss(0, 1), rng.uniform(0.05, 2), dl.Bins(-1, 1, rng.choice([2, 17, 300])))
        yield code, rng.randrange(code.size)


def test_what_is_pushed_comes_back_and_the_stack_is_as_before():
    stack, pushed = dl.Rans(words(3)), list(some_codes(1, 3000))
    before = stack.tobytes()
    for code, k in pushed:
        stack.push(k, code)
    copy = dl.Rans.frombytes(stack.tobytes())
    for code, k in reversed(pushed):
        assert copy.pop(code) == k
    assert copy.tobytes() == before


def test_what_is_popped_goes_back():
    stack, codes = dl.Rans(words(200, 2)), [code for code, _ in some_codes(3, 100)]
    before = stack.tobytes()
    popped = [stack.pop(code) for code in codes]
    for code, k in reversed([*zip(codes, popped, strict=True)]):
        stack.push(k, code)
    assert stack.tobytes() == before


def test_the_length_is_shannons():
    """log2(1/p) for each number, rare ones too, over the whole message, to a bit."""
    stack, shannon = dl.Rans(), 0.0
    start = stack.bits
    for code, k in some_codes(4, 4000):
        stack.push(k, code)
        shannon -= math.log2(probability(code, k))
    assert stack.bits - start == pytest.approx(shannon, abs=1)
    assert 8 * len(stack.tobytes()) == pytest.approx(stack.bits, abs=32)


def test_numbers_that_follow_the_table_cost_its_entropy():
    rng, stack, n = random.Random(5), dl.Rans(), 40_000
    start = stack.bits
    for k in rng.choices(range(4), TABLE, k=n):
        stack.push(k, dl.table_code(TABLE))
    bits = [-math.log2(p) for p in TABLE]
    entropy = sum(p * b for p, b in zip(TABLE, bits, strict=True))
    spread = sum(p * b * b for p, b in zip(TABLE, bits, strict=True)) - entropy**2
    assert (stack.bits - start) / n == pytest.approx(entropy, abs=5 * math.sqrt(spread / n))


def test_stir_has_an_inverse_and_keeps_the_length():
    stack = dl.Rans(words(5, 20))
    before, bits = stack.tobytes(), stack.bits
    stack.stir()
    assert stack.tobytes() != before
    assert stack.bits == bits
    stack.unstir()
    assert stack.tobytes() == before


def test_after_stir_a_pop_does_not_follow_the_last_push():
    """Numbers far out of the law: without it the next pop is the number that was pushed."""
    code, stack, popped = dl.normal_code(0.0, 1.0, WIDE), dl.Rans(words(2000, 21)), []
    for _ in range(1000):
        stack.push(4000, code)
        stack.stir()
        popped.append(stack.pop(code))
    x = WIDE.centres(torch.tensor(popped))
    assert x.mean().item() == pytest.approx(0, abs=5 / 1000**0.5)
    assert x.var().item() == pytest.approx(1, abs=5 * (2 / 1000) ** 0.5)


def test_fair_coins_cost_a_bit_each():
    stack, half, rng = dl.Rans(), dl.table_code([0.5, 0.5]), random.Random(6)
    bits = [rng.getrandbits(1) for _ in range(500)]
    for bit in bits:
        stack.push(bit, half)
    assert stack.bits - dl.Rans().bits == 500
    assert [stack.pop(half) for _ in range(500)] == bits[::-1]


def test_a_push_counts():
    """By the definition of ANS: the state after pushing k on x is the x-th whole number whose slot belongs to k."""
    seen = 0
    for code, k in some_codes(7, 300):
        stack = dl.Rans(words(2, 30))
        x = stack.state
        stack.push(k, code)
        if stack.words:
            continue
        first, count = code.below(k), code.below(k + 1) - code.below(k)
        rounds, slot = divmod(stack.state, TOTAL)
        assert first <= slot < first + count
        assert rounds * count + slot - first == x  # so many whole numbers below the new state belong to k
        seen += 1
    assert seen > 100


def test_popping_random_words_draws_from_the_law():
    code, n = dl.table_code(TABLE), 20_000
    stack = dl.Rans(words(2 * n, 8))
    drawn = [stack.pop(code) for _ in range(n)]
    chi = sum((drawn.count(k) - n * p) ** 2 / (n * p) for k, p in enumerate(TABLE))
    assert chi < 25  # three degrees of freedom: 1e-5


def test_bits_come_off_as_they_go_on():
    code, stack = dl.table_code(TABLE), dl.Rans(words(300, 9))
    before, spent = stack.bits, 0.0
    for _ in range(2000):
        spent -= math.log2(probability(code, stack.pop(code)))
    assert before - stack.bits == pytest.approx(spent, abs=1)


# --- codes


def test_counts_are_the_normal_law():
    """Against torch's, and the tails in the outer bins."""
    bins, law = dl.Bins(-1.0, 2.0, 50), torch.distributions.Normal(0.4, 0.7)
    code = dl.normal_code(0.4, 0.7, bins)
    edges = torch.linspace(-1, 2, 51, dtype=torch.float64)
    cdf = law.cdf(edges)
    cdf[0], cdf[-1] = 0, 1
    got = torch.tensor([probability(code, k) for k in range(50)], dtype=torch.float64)
    torch.testing.assert_close(got, cdf.diff(), rtol=0, atol=1e-7)  # torch's cdf of a float32 law
    assert code.below(0) == 0
    assert code.below(50) == TOTAL


@pytest.mark.parametrize(
    "code",
    [
        dl.table_code([0.0, 1.0, 0.0]),
        dl.table_code([1e-12, 1 - 1e-12]),
        dl.table_code([1.0]),
        dl.normal_code(80.0, 1e-3, dl.Bins(-1, 1, 17)),
        dl.normal_code(-80.0, 1e-3, dl.Bins(-1, 1, 17)),
    ],
)
def test_each_number_has_a_count(code):
    edges = [code.below(k) for k in range(code.size + 1)]
    assert edges[0] == 0
    assert edges[-1] == TOTAL
    assert all(a < b for a, b in pairwise(edges))


def test_bins():
    bins = dl.Bins(-1.0, 1.0, 17)
    k = torch.arange(17)
    torch.testing.assert_close(bins.centres(k), (2 * k.double() + 1) / 17 - 1)
    assert [bins.edge(0), bins.edge(17)] == [-1, 1]


# --- bits-back

DATA = dl.Bins(-2.0, 2.0, 12)
SMALL = dl.GaussianMixture([0.4, 0.6], [[-0.9, 0.2], [0.7, -0.3]], torch.eye(2).expand(2, 2, 2) * 0.1)
PATH = dl.RectifiedFlow()
TS = torch.tensor([0.15, 0.3, 0.5, 0.75, 0.95], dtype=torch.float64)


def binned(n, seed):
    """Samples of the mixture as bins."""
    x = SMALL.sample(n, generator=torch.Generator().manual_seed(seed)).double()
    return ((x + 2) / 4 * 12).floor().clamp(0, 11).long()


def test_bits_back_gives_the_samples_back_and_all_bits():
    stack, den, ks = dl.Rans(words(20, 10)), SMALL.denoiser(PATH), binned(60, 11)
    before = stack.tobytes()
    for k in ks:
        dl.bits_back_encode(stack, den, PATH, k, TS, data=DATA, latent=WIDE)
    received = dl.Rans.frombytes(stack.tobytes())
    found = [dl.bits_back_decode(received, den, PATH, (2,), TS, data=DATA, latent=WIDE) for _ in range(len(ks))]
    assert torch.equal(torch.stack(found[::-1]), ks)
    assert received.tobytes() == before


def test_an_image_keeps_its_shape():
    den = dl.GaussianMixture([1.0], [[0.0]], [[[0.5]]]).denoiser(PATH)
    flat = lambda x, t: dl.Estimate(*(v.reshape(x.shape) for v in den(x.reshape(-1, 1), t)))  # noqa: E731
    k, stack = torch.arange(6).reshape(1, 2, 3), dl.Rans(words(40, 12))
    dl.bits_back_encode(stack, flat, PATH, k, TS, data=DATA, latent=WIDE)
    got = dl.bits_back_decode(stack, flat, PATH, (1, 2, 3), TS, data=DATA, latent=WIDE)
    assert torch.equal(got, k)


def bound(k, ts, draws, seed):
    """The mean of the variational bound in bits, its KLs in closed form and its noise drawn afresh; (mean, error)."""
    den, g = SMALL.denoiser(PATH), torch.Generator().manual_seed(seed)
    x = DATA.centres(k).repeat(draws, 1)
    snr = torch.exp(2 * PATH.lam(ts))
    alpha, sigma = 1 - ts[-1], ts[-1]
    prior = alpha**2 * x.square() / (2 * sigma**2)  # KL(N(alpha x, sigma^2) || N(0, sigma^2))
    nats = prior.sum(1)
    for i in range(len(ts)):
        noise = torch.randn(x.shape, generator=g, dtype=torch.float64)
        x0 = den((1 - ts[i]) * x + ts[i] * noise, ts[i]).x0
        if i:
            nats += (snr[i - 1] - snr[i]) / 2 * (x - x0).square().sum(1)
            continue
        law = torch.distributions.Normal(x0, snr[0] ** -0.5)
        half = 4 / 12 / 2
        top = torch.where(x > 2 - 1.5 * half, 1.0, law.cdf(x + half))
        floor = torch.where(x < -2 + 1.5 * half, 0.0, law.cdf(x - half))
        nats -= (top - floor).log().sum(1)
    bits = nats / math.log(2)
    return bits.mean().item(), bits.std().item() / len(bits) ** 0.5


def net_lengths(ks, ts, latent):
    stack, den, lengths = dl.Rans(words(200, 13)), SMALL.denoiser(PATH), []
    for k in ks:
        before = stack.bits
        dl.bits_back_encode(stack, den, PATH, k, ts, data=DATA, latent=latent)
        lengths.append(stack.bits - before)
    return torch.tensor(lengths, dtype=torch.float64)


def test_the_net_length_is_the_variational_bound():
    """The coder's own latents on one side; KLs in closed form and fresh noise on the other."""
    ks = binned(1000, 14)
    lengths = net_lengths(ks, TS, WIDE)
    want, error = bound(ks, TS, 20, 15)
    deviation = math.hypot(error, lengths.std().item() / len(lengths) ** 0.5)
    assert deviation < 0.18
    assert lengths.mean().item() == pytest.approx(want, abs=4.5 * deviation)


def test_a_code_that_does_not_stir_is_longer(monkeypatch):
    """Two numbers a layer: the noise of the first follows the number that was pushed last."""
    ks = binned(100, 14)
    stirred = net_lengths(ks, TS, WIDE).mean().item()
    monkeypatch.setattr(dl.Rans, "stir", lambda self: None)
    assert net_lengths(ks, TS, WIDE).mean().item() > 2 * stirred


def test_bins_narrower_than_needed_change_nothing():
    """What a finer latent costs more to push it gives back when it is popped."""
    ks = binned(300, 16)
    plain, fine = (net_lengths(ks, TS, dl.Bins(-6.0, 6.0, size)) for size in (4096, 400_000))
    assert plain.mean().item() == pytest.approx(fine.mean().item(), abs=5 * (plain - fine).std().item() / 300**0.5)
    assert (plain - fine).std() < 7


def test_the_stack_lends_two_layers_and_no_more():
    """x_t is pushed only after x_(t+1) was popped: two layers of two numbers, whatever the number of layers."""
    layer = 2 * math.log2(4096 / 12 * 0.95 * math.sqrt(2 * math.pi * math.e))  # bits of the widest one
    for ts in (TS, torch.linspace(0.15, 0.95, 60, dtype=torch.float64)):
        lowest = []

        class Watched(dl.Rans):
            def pop(self, code, lowest=lowest):
                k = super().pop(code)
                lowest.append(self.bits)
                return k

        stack = Watched(words(20, 17))
        before = stack.bits
        dl.bits_back_encode(stack, SMALL.denoiser(PATH), PATH, binned(1, 18)[0], ts, data=DATA, latent=WIDE)
        assert layer < before - min(lowest) < 2 * layer + 6


BAD = {
    "words": (lambda: dl.Rans([2**32]), ValueError, r"words = .* from 0 to 2\^32 - 1"),
    "k": (lambda: dl.Rans().push(4, dl.table_code(TABLE)), ValueError, r"k = 4: this code .* from 0 to 3"),
    "empty": (lambda: dl.Rans().pop(dl.table_code(TABLE)), IndexError, r"no words .* more initial words"),
    "bytes": (lambda: dl.Rans.frombytes(b"123"), ValueError, r"content has 3 bytes"),
    "probs": (lambda: dl.table_code([0.5, 0.4]), ValueError, r"probs = .* sum to 1"),
    "negative": (lambda: dl.table_code([1.5, -0.5]), ValueError, r"probs = .* not negative"),
    "std": (lambda: dl.normal_code(0.0, 0.0, DATA), ValueError, r"std = 0.0: give a positive"),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
