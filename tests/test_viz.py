"""Pictures: what is drawn is read back from the axes."""

from __future__ import annotations

import math
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb, to_rgba
from matplotlib.figure import Figure

from ddpm_lite import viz


@pytest.fixture
def ax():
    return Figure().add_subplot()


def test_palette_is_okabe_and_ito():
    # red, green, blue of the eight colours as published
    published = [
        (0, 114, 178),
        (213, 94, 0),
        (0, 158, 115),
        (230, 159, 0),
        (204, 121, 167),
        (86, 180, 233),
        (240, 228, 66),
        (0, 0, 0),
    ]
    assert [tuple(round(255 * c) for c in to_rgb(colour)) for colour in viz.PALETTE] == published


def test_style_is_valid_and_used():
    with mpl.rc_context(viz.STYLE):
        ax = Figure().add_subplot()
        lines = [ax.plot([0, 1])[0] for _ in range(3)]
        assert [line.get_color() for line in lines] == list(viz.PALETTE[:3])
        assert not ax.spines["top"].get_visible()
        # text height in pixels when the figure is shown 360 pixels wide
        width, _ = mpl.rcParams["figure.figsize"]
        assert mpl.rcParams["xtick.labelsize"] / 72 * 360 / width >= 11


def test_scatter(ax):
    x = torch.randn(7, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert viz.scatter(ax, x, color=viz.PALETTE.green, size=3, alpha=0.4, label="data") is ax
    (drawn,) = ax.collections
    np.testing.assert_allclose(drawn.get_offsets(), x.detach().numpy())
    assert drawn.get_sizes().tolist() == [9]
    np.testing.assert_allclose(drawn.get_facecolor()[0], to_rgba(viz.PALETTE.green, 0.4))
    assert ax.get_aspect() == 1
    assert ax.get_legend_handles_labels()[1] == ["data"]
    for shape in [(7,), (7, 3)]:
        with pytest.raises(ValueError, match=r"x must have shape \(N, 2\)"):
            viz.scatter(ax, torch.zeros(shape))


def test_density_contours_lie_on_their_level_sets(ax):
    # a Gaussian with other widths and another centre in x and y: a swapped axis would show
    centre, std = torch.tensor([0.5, -1.0]), torch.tensor([0.4, 1.0])

    def log_prob(x):
        z = (x - centre) / std
        return -z.square().sum(1) / 2 - (2 * math.pi * std.prod()).log()

    assert viz.density(ax, log_prob, limits=(-4, 4), grid=300, levels=5) is ax
    (drawn,) = ax.collections
    checked = 0
    for level, path in zip(drawn.levels, drawn.get_paths(), strict=True):
        if len(path.vertices):
            p = log_prob(torch.tensor(path.vertices)).exp().numpy()
            np.testing.assert_allclose(p, level, rtol=0.02)
            checked += 1
    assert checked >= 3
    assert to_hex(drawn.get_edgecolor()[0]) == viz.PALETTE.black
    with pytest.raises(ValueError, match=r"log_prob must map \(N, 2\) to \(N,\)"):
        viz.density(ax, lambda x: x)
    with pytest.raises(ValueError, match="limits must increase"):
        viz.density(ax, log_prob, limits=(1, 1))


def test_vector_field(ax):
    assert viz.vector_field(ax, lambda x: torch.stack([x[:, 1], 3 * x[:, 0]], 1), limits=(-4, 4), grid=5) is ax
    (drawn,) = ax.collections
    base = np.asarray(drawn.get_offsets())
    assert sorted({*base[:, 0].tolist()}) == [-4, -2, 0, 2, 4]
    assert len({tuple(point) for point in base.tolist()}) == 25
    np.testing.assert_allclose(drawn.U, base[:, 1])
    np.testing.assert_allclose(drawn.V, 3 * base[:, 0])
    # in data units arrows are (U, V)/scale: the longest is one cell
    assert np.hypot(drawn.U, drawn.V).max() / drawn.scale == pytest.approx(2)
    assert (drawn.angles, drawn.scale_units) == ("xy", "xy")
    viz.vector_field(ax, torch.zeros_like, grid=3)  # no direction, no division by zero
    with pytest.raises(ValueError, match="field must map"):
        viz.vector_field(ax, lambda x: x[:, 0])


def test_image_grid_of_grey_images(ax):
    x = torch.linspace(-0.5, 0.5, 5 * 2 * 3).reshape(5, 1, 2, 3)
    assert viz.image_grid(ax, x, columns=3) is ax
    sheet = np.asarray(ax.images[0].get_array())
    assert sheet.shape == (2 * 2 + 1, 3 * 3 + 2)  # two rows of three, lines between
    np.testing.assert_allclose(sheet[0:2, 4:7], (x[1, 0].numpy() + 1) / 2, atol=1e-6)
    np.testing.assert_allclose(sheet[3:5, 0:3], (x[3, 0].numpy() + 1) / 2, atol=1e-6)
    assert (sheet[2] == 1).all()
    assert (sheet[:, 3] == 1).all()
    assert (sheet[3:, 8:] == 1).all()  # the empty place
    assert ax.images[0].get_clim() == (0, 1)  # not stretched to the data
    assert not ax.axison


def test_image_grid_of_colour_images_and_values_outside(ax):
    x = torch.zeros(2, 3, 4, 4)
    x[0, 0], x[1, 2] = 1.5, -3.0
    viz.image_grid(ax, x)
    sheet = np.asarray(ax.images[0].get_array())
    assert sheet.shape == (4, 9, 3)
    np.testing.assert_allclose(sheet[0, 0], [1, 0.5, 0.5])
    np.testing.assert_allclose(sheet[0, 5], [0.5, 0.5, 0])
    grey = viz.image_grid(Figure().add_subplot(), torch.tensor([-3.0, 0, 3]).reshape(1, 1, 1, 3))
    assert np.asarray(grey.images[0].get_array()).tolist() == [[0, 0.5, 1]]


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 2, 8, 8), (0, 1, 8, 8)])
def test_image_grid_refuses_other_shapes(ax, shape):
    with pytest.raises(ValueError, match="x must be images"):
        viz.image_grid(ax, torch.zeros(shape))
    with pytest.raises(ValueError, match="columns"):
        viz.image_grid(ax, torch.zeros(2, 1, 8, 8), columns=0)


def test_optional_libraries_are_not_imported():
    # beyond what torch itself imports
    code = "import sys, numpy, torch; before = {*sys.modules}; import ddpm_lite, ddpm_lite.nets; "
    code += "print(*sorted({name.split('.')[0] for name in {*sys.modules} - before}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {*run.stdout.split()}
    assert "ddpm_lite" in loaded
    assert not loaded & {"matplotlib", "sklearn", "tqdm", "safetensors", "scipy"}
