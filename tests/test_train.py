"""The training loop against algebra done by hand, and files against crashes."""

from __future__ import annotations

import json
import math
import os
from contextlib import nullcontext
from itertools import islice, repeat

import pytest
import torch
from torch import nn

from ddpm_lite import train
from ddpm_lite.nets import MLP, MLPConfig, UNet, UNetConfig


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(seed=0, inputs=3, outputs=1):
    torch.manual_seed(seed)
    return nn.Linear(inputs, outputs)


def regression(n=64):
    x = torch.randn(n, 3, generator=seeded())
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 3 + 0.1 * torch.randn(n, 1, generator=seeded(1))
    return x, y


def square(net):
    return lambda batch: (net(batch[0]) - batch[1]).square().mean(1)


def test_fit_reaches_the_least_squares_solution():
    x, y = regression()
    design = torch.cat([x, torch.ones(len(x), 1)], 1).double()
    exact = torch.linalg.lstsq(design, y.double()).solution[:, 0]
    net = linear()
    # full batches: the minimiser is that of the normal equations
    losses = train.fit(square(net), net, repeat((x, y)), steps=1000, lr=0.05)
    found = torch.cat([net.weight[0], net.bias]).double()
    assert torch.allclose(found, exact, atol=1e-5)
    floor = (design @ exact - y[:, 0].double()).square().mean().item()
    assert losses[-1] == pytest.approx(floor, rel=1e-5)
    assert len(losses) == 1000
    assert losses[0] > 5


@pytest.mark.parametrize("clip", [None, 0.5])
def test_fit_is_adam_written_out(clip):
    x, y = regression()
    net = linear(1)
    parts = [(x[i : i + 8], y[i : i + 8]) for i in range(0, 40, 8)]
    theta = torch.cat([net.weight.detach()[0], net.bias.detach()]).double()
    m, v, expected = torch.zeros(4).double(), torch.zeros(4).double(), []
    for k, (a, b) in enumerate(parts, 1):
        design = torch.cat([a, torch.ones(8, 1)], 1).double()
        residual = design @ theta - b[:, 0]
        expected.append(residual.square().mean().item())
        g = 2 / 8 * design.T @ residual
        g = g if clip is None else g * min(1, clip / g.norm().item())
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        theta = theta - 0.1 * (m / (1 - 0.9**k)) / ((v / (1 - 0.999**k)).sqrt() + 1e-8)
    losses = train.fit(square(net), net, parts, steps=5, lr=0.1, clip=clip)
    assert losses == pytest.approx(expected, rel=1e-4)
    assert torch.allclose(torch.cat([net.weight[0], net.bias]).double(), theta, atol=1e-4)


def test_clipping_matters_in_the_test_above():
    x, y = regression()
    ends = []
    for clip in (None, 0.5):
        net = linear(1)
        parts = [(x[i : i + 8], y[i : i + 8]) for i in range(0, 40, 8)]
        train.fit(square(net), net, parts, steps=5, lr=0.1, clip=clip)
        ends.append(net.weight.detach().clone())
    assert (ends[0] - ends[1]).abs().max() > 1e-3


class Odd(nn.Module):
    """Parameters of many shapes: sizes that fill no 64 bytes, one that gets no gradient, one that is frozen."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.norm = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)
        self.unused = nn.Parameter(torch.randn(7))
        self.frozen = nn.Parameter(torch.randn(5, 1, 1), requires_grad=False)
        self.last = nn.Linear(5, 1)
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.scale * self.last((self.conv(self.norm(x)).sin() * self.frozen).mean((2, 3)))[:, 0]


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("rate", [0.02, lambda u: 0.05 * (1 - u)])
def test_fit_is_torchs_loop(clip, rate):
    """A loop with torch's optimiser, clipping and a moving average parameter by parameter."""
    x, y = torch.randn(16, 3, 5, 5, generator=seeded()), torch.randn(16, generator=seeded(1))
    net, ours = Odd(), Odd()
    average = [p.detach().clone() for p in net.parameters()]
    ema, optimiser = train.EMA(ours, decay=0.3), torch.optim.Adam(net.parameters())
    for k in range(12):
        optimiser.param_groups[0]["lr"] = rate(k / 12) if callable(rate) else rate
        optimiser.zero_grad()
        (net(x) - y).square().mean().backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), clip or math.inf)
        assert clip is None or norm > clip
        optimiser.step()
        decay = min(0.3, (1 + k) / (10 + k))
        average = [decay * a + (1 - decay) * p.detach() for a, p in zip(average, net.parameters(), strict=True)]
    train.fit(lambda x: (ours(x) - y).square(), ours, repeat(x), steps=12, lr=rate, clip=clip, ema=ema)
    for (name, mine), theirs in zip(ours.named_parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5, msg=name)
    for mine, theirs in zip(ema.model.parameters(), average, strict=True):
        torch.testing.assert_close(mine.data, theirs, rtol=1e-4, atol=1e-5)
    assert torch.equal(ema.model.norm.running_var, ours.norm.running_var)


@pytest.mark.parametrize("fails", [False, True])
def test_fit_leaves_parameters_in_their_own_memory(fails):
    x, y = torch.randn(16, 3, 5, 5, generator=seeded()), torch.randn(16, generator=seeded(1))
    net = Odd().requires_grad_()
    ema = train.EMA(net, decay=0.3)
    tensors = [*net.parameters(), *ema.model.parameters()]
    where, shapes = [p.data_ptr() for p in tensors], [p.stride() for p in tensors]
    before, count, seen = [p.detach().clone() for p in tensors], iter(range(9)), []

    def loss(x):
        seen[:] = [p.detach().clone() for p in tensors]
        return (net(x) - y).square() * (math.nan if fails and next(count) == 4 else 1)

    def watch(step, value):
        assert tensors[0].data_ptr() % 64 == tensors[1].data_ptr() % 64 == tensors[2].data_ptr() % 64
        for a, p in zip(ema.model.parameters(), net.parameters(), strict=True):
            assert a.shape == p.shape

    with pytest.raises(FloatingPointError, match="step 4") if fails else nullcontext():
        train.fit(loss, net, repeat(x), steps=6, ema=ema, on_step=watch)
    assert [p.data_ptr() for p in tensors] == where
    assert [p.stride() for p in tensors] == shapes
    moved = [not torch.equal(p, old) for p, old in zip(tensors, before, strict=True)]
    assert moved.count(False) == 2  # only the unused one and its average
    if fails:
        assert all(torch.equal(p, last) for p, last in zip(tensors, seen, strict=True))


def test_on_step_and_modes():
    x, y = regression()
    net = nn.Sequential(nn.Dropout(0.5), linear())
    seen, modes = [], []

    def loss(batch):
        modes.append(net.training)
        return square(net)(batch)

    net.eval()
    losses = train.fit(loss, net, repeat((x, y)), steps=7, on_step=lambda k, value: seen.append((k, value)))
    assert [k for k, _ in seen] == list(range(7))
    assert [value.item() for _, value in seen] == losses
    assert not any(value.requires_grad for _, value in seen)
    assert modes == [True] * 7
    assert not net.training


def test_losses_read_at_intervals_are_the_same():
    # on an accelerator the losses are read every _INTERVAL steps; 13 = 5 + 5 + 3 has a rest
    record = train._Record(5)
    for k in range(13):
        record.add(torch.tensor(float(k)))
        assert len(record.values) == (k + 1) // 5 * 5
    assert record.read() == [float(k) for k in range(13)]
    record = train._Record(5)
    for k in range(9):
        record.add(torch.tensor(math.nan if k >= 7 else 1.0))
    with pytest.raises(FloatingPointError, match="nan at step 7"):
        record.add(torch.tensor(1.0))


def test_frozen_parameters_stay():
    x, y = regression()
    net = linear()
    net.bias.requires_grad_(False)
    before = net.bias.clone()
    train.fit(square(net), net, repeat((x, y)), steps=3)
    assert torch.equal(net.bias, before)


def test_autocast_runs_the_loss_in_bfloat16_and_keeps_float32_weights():
    x, y = regression()
    net, seen = linear(), set()

    def loss(batch):
        out = net(batch[0])
        seen.add(out.dtype)
        return (out - batch[1]).square().mean(1)

    losses = train.fit(loss, net, repeat((x, y)), steps=300, lr=0.05, autocast=torch.bfloat16)
    assert seen == {torch.bfloat16}
    assert net.weight.dtype == torch.float32
    assert losses[-1] < 0.1 < losses[0]
    seen.clear()
    train.fit(loss, net, repeat((x, y)), steps=1)
    assert seen == {torch.float32}


def test_loss_that_is_not_finite_names_the_step_and_keeps_the_last_good_weights():
    x, y = regression()
    net, kept, count = linear(), [], iter(range(100))

    def loss(batch):
        kept.append(net.weight.detach().clone())
        return square(net)(batch) * (math.nan if next(count) == 4 else 1)

    with pytest.raises(FloatingPointError, match="nan at step 4"):
        train.fit(loss, net, repeat((x, y)), steps=10)
    assert torch.equal(net.weight, kept[4])
    assert not torch.equal(net.weight, kept[3])


def test_bad_arguments_of_fit():
    x, y = regression()
    net = linear()
    with pytest.raises(ValueError, match="ended after 3 of 5 steps"):
        train.fit(square(net), net, [(x, y)] * 3, steps=5)
    with pytest.raises(ValueError, match=r"shape \(B,\); got \(\). Leave out .mean"):
        train.fit(lambda b: square(net)(b).mean(), net, repeat((x, y)), steps=5)
    with pytest.raises(ValueError, match=r"got \(64, 1\)"):
        train.fit(lambda b: (net(b[0]) - b[1]).square(), net, repeat((x, y)), steps=5)
    with pytest.raises(ValueError, match="steps=0"):
        train.fit(square(net), net, repeat((x, y)), steps=0)
    with pytest.raises(ValueError, match=r"parameters that require gradients, .*; got none"):
        train.fit(square(net), nn.ReLU(), repeat((x, y)), steps=1)
    mixed = nn.Sequential(linear(), linear(inputs=1).double())
    with pytest.raises(ValueError, match=r"of one dtype on one device; got torch.float32 on cpu, torch.float64 on cpu"):
        train.fit(square(mixed), mixed, repeat((x, y)), steps=1)


def test_fit_without_tqdm(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tqdm", None)
    net = linear()
    assert len(train.fit(square(net), net, repeat(regression()), steps=2)) == 2


def test_ema_is_the_geometric_sum():
    net = linear()
    ema = train.EMA(net, decay=0.6)
    history = [net.weight.detach().double().clone()]
    for k in range(20):
        with torch.no_grad():
            net.weight.copy_(torch.randn(1, 3, generator=seeded(k)))
        history.append(net.weight.detach().double().clone())
        ema.update()
    # weight of theta_j: (1 - d_j) d_{j+1} ... d_n, with the warm-up d_k = min(.6, (1 + k)/(10 + k)), k = j - 1
    decay = [min(0.6, (1 + k) / (10 + k)) for k in range(20)]
    assert len({*decay}) > 5  # the warm-up is visible
    assert decay[-1] == 0.6  # and over
    expected = math.prod(decay) * history[0]
    for j in range(1, 21):
        expected = expected + (1 - decay[j - 1]) * math.prod(decay[j:]) * history[j]
    assert torch.allclose(ema.model.weight.double(), expected, atol=1e-6)


def test_ema_is_apart_from_its_model():
    net = nn.Sequential(linear(), nn.BatchNorm1d(1), nn.Dropout(0.5))
    ema = train.EMA(net, decay=0.9)
    x, y = regression()
    train.fit(square(net), net, repeat((x, y)), steps=5, ema=ema)
    assert ema.updates == 5
    assert not ema.model.training
    assert not any(p.requires_grad for p in ema.model.parameters())
    assert not torch.equal(ema.model[0].weight, net[0].weight)
    assert torch.equal(ema.model[1].running_mean, net[1].running_mean)  # buffers are copied
    before = ema.model[0].weight.clone()
    with torch.no_grad():
        net[0].weight.zero_()
    assert torch.equal(ema.model[0].weight, before)
    for decay in (1.0, -0.1, math.nan):
        with pytest.raises(ValueError, match="decay"):
            train.EMA(net, decay)


def test_batches_are_permutations_without_the_rest():
    data = torch.arange(10.0)[:, None]
    draw = train.batches(data, 3, generator=seeded())
    passes = [torch.cat(list(islice(draw, 3)))[:, 0].tolist() for _ in range(400)]
    assert all(len(set(one)) == 9 for one in passes)  # nothing twice in a pass
    assert len({tuple(one) for one in passes}) == 400  # a new order each time
    left_out = torch.tensor([next(iter(set(range(10)) - set(one))) for one in passes])
    # counts of 400 draws from 10: chi-squared with 9 degrees of freedom, P(> 45) < 1e-6
    assert ((left_out.bincount(minlength=10) - 40).square() / 40).sum() < 45


def test_a_long_pass_is_a_permutation_too():
    # batches are gathered some at a time; a pass of 99 // 2 = 49 crosses that border
    draw = train.batches(torch.arange(99.0)[:, None], 2, generator=seeded())
    for _ in range(5):
        values = torch.cat(list(islice(draw, 49)))[:, 0]
        assert values.shape == (98,)
        assert len(set(values.tolist())) == 98
        assert not torch.equal(values, values.sort().values)


def test_batches_keep_rows_together_and_are_seeded():
    x, label = torch.randn(50, 2, 3, generator=seeded()), torch.arange(50)
    draw = train.batches((x, label), 8, generator=seeded(1))
    for a, b in islice(draw, 20):
        assert a.shape == (8, 2, 3)
        assert torch.equal(a, x[b])
    again = train.batches((x, label), 8, generator=seeded(1))
    assert torch.equal(next(again)[1], next(train.batches((x, label), 8, generator=seeded(1)))[1])
    torch.manual_seed(5)
    first = next(train.batches(x, 8))
    torch.manual_seed(5)
    assert torch.equal(first, next(train.batches(x, 8)))  # without a generator: the global one


def test_bad_data_is_refused_at_once():
    x = torch.zeros(10, 2)
    for data, size in [(x, 11), (x, 0), ((x, x[:5]), 2), ((), 1)]:
        with pytest.raises(ValueError, match="size must be in"):
            train.batches(data, size)
    x[3, 1] = math.inf
    with pytest.raises(ValueError, match="not finite"):
        train.batches((torch.arange(10), x), 2)


NETWORKS = [
    (lambda c: MLP(MLPConfig(**c)), MLPConfig(width=16, classes=3)),
    (lambda c: UNet(UNetConfig(**c)), UNetConfig(width=8, multipliers=(1, 1), attention=(0, 1))),
]


@pytest.mark.parametrize(("make", "config"), NETWORKS)
def test_save_and_load_are_bit_for_bit(tmp_path, make, config):
    torch.manual_seed(0)
    net = make(vars(config))
    with torch.no_grad():
        for p in net.parameters():
            p.normal_()
    path = tmp_path / "deep" / "model.safetensors"
    train.save(path, net.to(memory_format=torch.channels_last), config)
    torch.manual_seed(1)
    other = train.load(path, make)
    assert other.config == config  # lists became tuples again
    assert not other.training
    for name, value in net.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
    assert json.loads(path.with_suffix(".json").read_text()) == json.loads(json.dumps(vars(config)))
    assert sorted(p.name for p in path.parent.iterdir()) == ["model.json", "model.safetensors"]


def test_training_goes_on_bit_for_bit_after_a_file(tmp_path):
    config = MLPConfig(width=16, depth=1)
    x = torch.randn(64, 2, generator=seeded())

    def loss(net):
        return lambda batch: (net(batch, batch[:, 0].sigmoid()) - batch.flip(1)).square().mean(1)

    torch.manual_seed(0)
    net = MLP(config)
    train.fit(loss(net), net, train.batches(x, 8, generator=seeded()), steps=5)
    train.save(tmp_path / "a.safetensors", net, config)
    copy = train.load(tmp_path / "a.safetensors", lambda c: MLP(MLPConfig(**c)))
    one = train.fit(loss(net), net, train.batches(x, 8, generator=seeded(1)), steps=20)
    two = train.fit(loss(copy), copy, train.batches(x, 8, generator=seeded(1)), steps=20)
    assert one == two
    assert torch.equal(net.last.weight, copy.last.weight)


@pytest.mark.parametrize("moment", ["write", "rename"])
def test_a_crash_while_saving_keeps_the_old_file(tmp_path, monkeypatch, moment):
    path = tmp_path / "net.safetensors"
    train.save(path, linear(0), {"seed": 0})
    content = path.read_bytes()

    def crash(*args):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync" if moment == "write" else "replace", crash)
    with pytest.raises(OSError, match="no space left"):
        train.save(path, linear(1), {"seed": 1})
    monkeypatch.undo()
    assert path.read_bytes() == content
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.json", "net.safetensors"]
    assert torch.equal(train.load(path, lambda c: linear(9)).weight, linear(0).weight)


def test_weights_and_config_cannot_part(tmp_path, monkeypatch):
    # a crash between the two renames leaves an old .json: load() reads the config that lies with the weights
    path, rename, calls = tmp_path / "net.safetensors", os.replace, []
    train.save(path, linear(0), {"inputs": 3})

    def second_fails(*args):
        calls.append(args)
        if len(calls) == 2:
            raise OSError("power cut")
        rename(*args)

    monkeypatch.setattr(os, "replace", second_fails)
    with pytest.raises(OSError, match="power cut"):
        train.save(path, linear(0, 5), {"inputs": 5})
    assert train.load(path, lambda c: linear(0, **c)).in_features == 5


def test_errors_of_load_name_the_remedy(tmp_path):
    path = tmp_path / "net.safetensors"
    with pytest.raises(FileNotFoundError, match=r"no model at .*net.safetensors.*save\(\)"):
        train.load(path, lambda c: linear())
    train.save(path, linear(), {})
    content = path.read_bytes()
    for cut in (0, 5, 40, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(ValueError, match=r"net.safetensors is cut .* again"):
            train.load(path, lambda c: linear())
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"other shapes \['weight'\]"):
        train.load(path, lambda c: linear(inputs=4))
    with pytest.raises(ValueError, match=r"missing \['0.bias', '0.weight'\], unknown \['bias', 'weight'\]"):
        train.load(path, lambda c: nn.Sequential(linear()))
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(1, 3)}, path)
    with pytest.raises(ValueError, match="holds no config"):
        train.load(path, lambda c: linear())


def test_config_must_be_json(tmp_path):
    for config in ({"a": torch.zeros(1)}, {"a": math.nan}):
        with pytest.raises(ValueError, match="config must be a dict or dataclass of JSON values"):
            train.save(tmp_path / "a.safetensors", linear(), config)
    assert list(tmp_path.iterdir()) == []
