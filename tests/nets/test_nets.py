"""What every network owes: `net(x, t, cond=None)` that uses all it is given and nothing of the neighbours."""

from __future__ import annotations

import pytest
import torch

from ddpm_lite.nets import MLP, DiT, DiTConfig, MLPConfig, UNet, UNetConfig
from ddpm_lite.paths import EDM
from ddpm_lite.predict import Preconditioned


def mlp(**sizes):
    return MLP(MLPConfig(**{"width": 32, "classes": 3, **sizes}))


def unet(**sizes):
    return UNet(UNetConfig(**{"width": 8, "classes": 3, **sizes}))


def dit(**sizes):
    return DiT(DiTConfig(**{"width": 16, "depth": 2, "heads": 2, "classes": 3, **sizes}))


def awake(net, seed=0):
    """Parameters drawn at random, also those that start at zero."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.normal_(std=0.2)
    return net


def inputs(shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return (
        torch.randn(shape, generator=g),
        torch.rand(shape[0], generator=g),
        torch.randint(3, shape[:1], generator=g),
    )


CASES = [(mlp, (6, 2)), (unet, (6, 1, 8, 8)), (dit, (6, 1, 8, 8))]
ALL = pytest.mark.parametrize(("make", "shape"), CASES)


@ALL
def test_output_has_the_shape_and_dtype_of_x(make, shape):
    net = awake(make())
    x, t, cond = inputs(shape)
    assert net(x, t, cond).shape == shape
    assert net(x, t).shape == shape
    assert net(x, t).dtype == torch.float32
    # float64 samplers may use a float32 network: it computes in its own precision
    wide = net(x.double(), t.double(), cond)
    assert wide.dtype == torch.float64
    assert torch.allclose(wide.float(), net(x, t, cond), atol=1e-4)
    precise = net.double()(x.double(), t.double(), cond)
    assert torch.allclose(precise, wide, atol=1e-3)


@ALL
def test_batch_permutes_and_samples_do_not_leak(make, shape):
    net = awake(make()).double()
    x, t, cond = inputs(shape)
    x, t = x.double(), t.double()
    out = net(x, t, cond)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert torch.allclose(net(x[order], t[order], cond[order]), out[order], atol=1e-10)
    for i in (0, 4):
        alone = net(x[i : i + 1], t[i : i + 1], cond[i : i + 1])
        assert torch.allclose(alone, out[i : i + 1], atol=1e-10)


@pytest.mark.parametrize(
    ("make", "shape"),
    [(mlp, (2, 2)), (unet, (8, 1, 8, 8)), (lambda: unet(channels=3), (3, 3, 8, 8)), (dit, (8, 1, 8, 8))],
)
def test_batch_as_large_as_the_dimension(make, shape):
    # B == D: time and class belong to the sample, not to the coordinate, channel or column
    net = awake(make()).double()
    x, t, cond = inputs(shape)
    x, t = x[:1].expand(shape).double(), torch.linspace(0.1, 0.9, shape[0]).double()
    out = net(x, t, cond)
    for i in range(shape[0]):
        assert torch.allclose(net(x[:1], t[i : i + 1], cond[i : i + 1])[0], out[i], atol=1e-10)


@ALL
def test_time_and_class_matter(make, shape):
    net = awake(make())
    x, t, _ = inputs(shape)
    label = torch.zeros(len(x), dtype=torch.int64)
    base = net(x, t, label)
    for other in (net(x, 0.5 * t, label), net(x, t, label + 1), net(x, t, label + 2), net(x, t)):
        assert ((other - base).flatten(1).abs().amax(1) > 1e-3).all()
    assert torch.equal(net(x, t), net(x, t, label + 3))  # None is the label "no class"


@ALL
def test_gradient_reaches_every_parameter(make, shape):
    net = awake(make())
    x, t, cond = inputs(shape)
    cond = torch.tensor([0, 1, 2, 3, 0, 1])  # every class and no class
    net(x, t, cond).square().mean().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().amax() > 0, name
    table = net.label.table.weight.grad
    assert (table.abs().amax(1) > 0).all()


@ALL
def test_without_classes(make, shape):
    net = make(classes=0)
    x, t, cond = inputs(shape)
    assert not [name for name, _ in net.named_parameters() if "label" in name]
    with pytest.raises(ValueError, match=r"without classes: set \w+Config\(classes=...\)"):
        net(x, t, cond)


@ALL
def test_bad_inputs(make, shape):
    net = make()
    x, t, _ = inputs(shape)
    for wrong in (t[:1], t[:, None], t[0], t[:3]):
        with pytest.raises(ValueError, match=r"t must be floating with shape \(6,\)"):
            net(x, wrong)
    with pytest.raises(ValueError, match="A step i of T is the time i / T"):
        net(x, torch.arange(6))
    for wrong in (x[0], x[:, :0], x[..., None]):
        with pytest.raises(ValueError, match=r"x must have shape \(B, "):
            net(wrong, t)


def compiled(net):
    """The network behind a compiler that only traces, and the graphs that it was given; a graph break is an error."""
    torch.compiler.reset()
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    return torch.compile(net, backend=backend, fullgraph=True), graphs


@ALL
def test_compiles_as_one_graph(make, shape):
    net = awake(make())
    x, t, cond = inputs(shape)
    whole, graphs = compiled(net)
    for times in (t, t.flip(0), t.square()):  # other times need no other graph
        assert torch.equal(whole(x, times, cond), net(x, times, cond))
    assert len(graphs) == 1


@pytest.mark.parametrize("make", [unet, dit])
def test_compiles_as_one_graph_without_classes(make):
    net = awake(make(classes=0))
    x, t, _ = inputs((6, 1, 8, 8))
    whole, graphs = compiled(net)
    for times in (t, t.flip(0)):
        assert torch.equal(whole(x, times), net(x, times))
    assert len(graphs) == 1


@pytest.mark.parametrize("make", [unet, dit])
def test_compiles_as_one_graph_when_preconditioned(make):
    net = Preconditioned(awake(make()), EDM(), 0.7)
    x, t, cond = inputs((6, 1, 8, 8))
    t = 0.1 + 0.8 * t
    whole, graphs = compiled(net)
    for times in (t, t.flip(0)):
        assert torch.equal(whole(x, times, cond), net(x, times, cond))
    assert len(graphs) == 1


@pytest.mark.parametrize("make", [unet, dit])
def test_a_second_graph_serves_every_other_batch_size(make):
    net = awake(make(classes=0))
    x, t, _ = inputs((6, 1, 8, 8))
    whole, graphs = compiled(net)
    for n in (6, 5, 4, 3):
        assert torch.equal(whole(x[:n], t[:n]), net(x[:n], t[:n]))
    assert len(graphs) == 2


def test_mlp_parameter_count():
    def count(net):
        return sum(p.numel() for p in net.parameters())

    for dim, width, depth, classes, waves, times in [(2, 128, 3, 0, 8, 16), (5, 20, 1, 0, 0, 4), (1, 7, 4, 3, 2, 6)]:
        config = MLPConfig(dim, width, depth, classes, waves, times)
        features = dim * (1 + waves) + times
        expected = (features + 1) * width + (depth - 1) * (width + 1) * width + (width + 1) * dim
        expected += (classes + 1) * width if classes else 0
        assert count(MLP(config)) == expected
    assert count(MLP()) == 37_762


def test_mlp_in_one_layer_written_out():
    net = awake(MLP(MLPConfig(dim=2, width=4, depth=1, coordinate_waves=4, time_waves=2))).double()
    x, t = torch.tensor([[0.3, -1.2]]).double(), torch.tensor([0.4]).double()
    a, b = 0.3, -1.2  # frequencies 1 and 8
    cos, sin = torch.cos, torch.sin
    waves = [torch.tensor([c, 8 * c]).double() for c in (a, b)]
    features = [x[0], *(f(w) for w in waves for f in (cos, sin)), cos(t), sin(t)]
    h = net.first.weight @ torch.cat(features) + net.first.bias
    expected = net.last.weight @ (h / (1 + torch.exp(-h))) + net.last.bias
    assert torch.allclose(net(x, t)[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    "sizes", [{"dim": 0}, {"width": 0}, {"depth": 0}, {"classes": -1}, {"coordinate_waves": 3}, {"time_waves": 0}]
)
def test_bad_mlp_sizes(sizes):
    with pytest.raises(ValueError, match="must be"):
        MLPConfig(**sizes)


def fitted(net, x, t, cond, steps, lr):
    target = torch.randn(x.shape, generator=torch.Generator().manual_seed(9))
    optimiser = torch.optim.Adam(net.parameters(), lr=lr)
    for _ in range(steps):
        loss = (net(x, t, cond) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return loss.item()


def test_small_sets_are_learned_by_heart():
    # the target has mean square 1; each input occurs with two times and two classes, so all three are needed
    for make, shape, steps, lr, bound in [
        (mlp, (2, 2), 150, 1e-2, 1e-3),
        (unet, (2, 1, 8, 8), 60, 1e-2, 5e-3),
        (dit, (2, 1, 8, 8), 150, 1e-2, 5e-3),
    ]:
        torch.manual_seed(0)
        net = make()
        x, _, _ = inputs(shape)
        x = x.repeat_interleave(4, 0)
        t, cond = torch.tensor([0.2, 0.2, 0.7, 0.7] * 2), torch.tensor([0, 1, 0, 1] * 2)
        assert fitted(net, x, t, cond, steps, lr) < bound


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (7, 9), (5, 12), (4, 4)])
def test_unet_at_any_size(size):
    net = awake(unet(multipliers=(1, 2, 2), attention=(2,), blocks=2))
    x, t, cond = inputs((2, 1, *size))
    assert net(x, t, cond).shape == x.shape


def test_unet_starts_at_zero():
    x, t, cond = inputs((2, 1, 8, 8))
    assert torch.equal(UNet(UNetConfig(classes=3))(x, t, cond), torch.zeros_like(x))


def test_unet_parameter_counts():
    def count(**sizes):
        return sum(p.numel() for p in UNet(UNetConfig(**sizes)).parameters())

    assert count() == 464_769  # as documented
    assert count(width=16) < 1.2e5
    # attention adds to each of its three blocks here: norm 2c, qkv 3c(c + 1), projection c(c + 1), with c = 64
    assert count() - count(attention=()) == 3 * (2 * 64 + 4 * 64 * 65)
    assert count(classes=10) - count() == 11 * 4 * 32


def test_block_written_out():
    from ddpm_lite.nets.unet import Block

    block = awake(Block(8, 16, 5)).double()
    x, e = torch.randn(2, 8, 3, 4).double(), torch.randn(2, 5).double()

    def normalise(h, groups=8):
        parts = h.reshape(2, groups, -1)
        parts = (parts - parts.mean(2, keepdim=True)) / (parts.var(2, keepdim=True, unbiased=False) + 1e-5).sqrt()
        return parts.reshape(h.shape)

    def silu(h):
        return h / (1 + torch.exp(-h))

    def per_channel(v):
        return v[..., None, None]

    h = normalise(x) * per_channel(block.norm1.weight) + per_channel(block.norm1.bias)
    h = block.conv1(silu(h))
    modulation = e @ block.modulation.weight.T + block.modulation.bias  # (B, 32): scales, then shifts
    h = normalise(h) * (1 + per_channel(modulation[:, :16])) + per_channel(modulation[:, 16:])
    assert torch.allclose(block(x, e), block.skip(x) + block.conv2(silu(h)), atol=1e-10)


def test_attention_weighs_all_pixels():
    from ddpm_lite.nets.unet import Attention

    torch.manual_seed(0)
    layer = awake(Attention(64)).double()
    x = torch.randn(2, 64, 3, 4, dtype=torch.float64)
    q, k, v = layer.qkv(layer.norm(x)).flatten(2).chunk(3, 1)  # (B, C, H W)
    parts = []
    for head in range(2):  # heads of 32 channels, by hand
        a, b, c = (z[:, 32 * head : 32 * head + 32] for z in (q, k, v))
        weight = torch.softmax(a.transpose(1, 2) @ b / 32**0.5, -1)  # (B, H W, H W)
        parts.append((weight @ c.transpose(1, 2)).transpose(1, 2))
    mixed = torch.cat(parts, 1).reshape(x.shape)
    assert torch.allclose(layer(x), x + layer.projection(mixed), atol=1e-10)


def test_dropout_works_in_training_only():
    net = awake(unet(dropout=0.5))
    x, t, cond = inputs((2, 1, 8, 8))
    assert not torch.equal(net.train()(x, t, cond), net(x, t, cond))
    assert torch.equal(net.eval()(x, t, cond), net(x, t, cond))


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"width": 12}, "multiple of 8"),
        ({"width": 0}, "multiple of 8"),
        ({"multipliers": ()}, "multiplier"),
        ({"multipliers": (1, 0)}, "multiplier"),
        ({"blocks": 0}, "blocks"),
        ({"channels": 0}, "channels"),
        ({"attention": (2,)}, r"levels 0..1; got \(2,\)"),
        ({"dropout": 1.0}, "dropout"),
        ({"classes": -1}, "classes"),
    ],
)
def test_bad_unet_sizes(sizes, words):
    with pytest.raises(ValueError, match=words):
        UNetConfig(**sizes)


def test_images_too_small_for_the_levels():
    with pytest.raises(ValueError, match=r"H, W at least 4 for 3 levels; got \(2, 1, 3, 8\)"):
        unet(multipliers=(1, 1, 1))(torch.zeros(2, 1, 3, 8), torch.ones(2))


# The transformer


@pytest.mark.parametrize(("size", "patch"), [((8, 8), 2), ((28, 28), 4), ((6, 9), 3), ((4, 10), 1)])
def test_dit_at_any_size_that_the_patch_divides(size, patch):
    net = awake(dit(patch=patch, channels=2))
    x, t, cond = inputs((3, 2, *size))
    assert net(x, t, cond).shape == x.shape
    with pytest.raises(ValueError, match=r"multiples of 2; got \(2, 1, 8, 7\)"):
        dit()(torch.zeros(2, 1, 8, 7), torch.ones(2))


def test_dit_starts_at_zero_with_blocks_that_do_nothing():
    net = DiT(DiTConfig(classes=3))
    x, t, cond = inputs((2, 1, 8, 8))
    assert torch.equal(net(x, t, cond), torch.zeros_like(x))
    h, e = torch.randn(2, 5, 192), torch.randn(2, 192)
    assert torch.equal(net.blocks[0](h, e), h)


def test_dit_parameter_counts():
    """Counted by hand: a block has 4 w^2 + 4w (attention), 8 w^2 + 5w (two layers), 6 w^2 + 6w (modulation)."""
    w, p = 192, 2
    outside = (p * p + 1) * w + 2 * (w * w + w) + (2 * w * w + 2 * w) + (w + 1) * p * p
    assert sum(q.numel() for q in DiT().parameters()) == outside + 4 * (18 * w * w + 15 * w) == 2_815_684
    assert sum(q.numel() for q in DiT(DiTConfig(classes=10)).parameters()) == 2_815_684 + 11 * w


def test_dit_block_written_out():
    from ddpm_lite.nets.dit import TransformerBlock

    block = awake(TransformerBlock(6, 2, 0.0)).double()
    h, e = torch.randn(2, 4, 6).double(), torch.randn(2, 6).double()

    def linear(layer, v):
        return v @ layer.weight.T + layer.bias

    def normalise(v):
        v = v - v.mean(2, keepdim=True)
        return v / (v.var(2, keepdim=True, unbiased=False) + 1e-6).sqrt()

    s1, b1, g1, s2, b2, g2 = linear(block.modulation, e).reshape(2, 6, 1, 6).unbind(1)
    q, k, v = linear(block.qkv, normalise(h) * (1 + s1) + b1).reshape(2, 4, 3, 6).unbind(2)
    heads = []
    for part in (slice(0, 3), slice(3, 6)):
        weight = torch.softmax(q[..., part] @ k[..., part].mT / 3**0.5, -1)
        heads.append(weight @ v[..., part])
    y = h + g1 * linear(block.projection, torch.cat(heads, 2))
    z = linear(block.up, normalise(y) * (1 + s2) + b2)
    z = z / 2 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (z + 0.044715 * z**3)))
    assert torch.allclose(block(h, e), y + g2 * linear(block.down, z), atol=1e-10)


def test_dit_puts_every_patch_back_where_it_was():
    """With the blocks asleep the output at a patch depends on that patch alone."""
    net = DiT(DiTConfig(width=16, heads=2, depth=1))
    with torch.no_grad():
        net.last.weight.normal_()
    x, t = torch.randn(1, 1, 6, 8), torch.tensor([0.5])
    y = x.clone()
    y[0, 0, 2:4, 6:8] += 1
    changed = (net(y, t) != net(x, t))[0, 0]
    assert changed[2:4, 6:8].all()
    assert changed.sum() == 4


def test_dit_knows_where_a_patch_is():
    """Patches with the same content and other places: the rows and the columns both tell them apart."""
    net = awake(dit())
    y = net(torch.ones(1, 1, 8, 8), torch.tensor([0.5])).reshape(4, 2, 4, 2).permute(0, 2, 1, 3).reshape(16, 4)
    assert torch.cdist(y, y)[~torch.eye(16, dtype=bool)].min() > 1e-4


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"width": 18, "heads": 3}, "multiple of heads and of 4"),
        ({"width": 16, "heads": 3}, "multiple of heads and of 4"),
        ({"patch": 0}, "at least 1"),
        ({"depth": 0}, "at least 1"),
        ({"dropout": 1.0}, "dropout"),
        ({"classes": -1}, "classes"),
    ],
)
def test_bad_dit_sizes(sizes, words):
    with pytest.raises(ValueError, match=words):
        DiTConfig(**sizes)
