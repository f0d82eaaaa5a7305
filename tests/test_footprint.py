"""Renders below a picture's own size: averaged Gaussians against the reference and the truth."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from conftest import scatter
from test_render import compare_renders, special_gaussians

from taichi2dgs import metrics
from taichi2dgs.rendering import footprint, reference
from taichi2dgs.rendering.view import View

# At 6 standard deviations a Gaussian is 1.5e-8 of its peak: rounding of its support is invisible.
CUTOFF = 6.0


@pytest.mark.parametrize("blend", ["normalized", "sum"])
@pytest.mark.parametrize("size", [(16, 31), (60, 20), (33, 80), (1, 1)])
def test_matches_reference(size, blend):
    compare_renders(scatter(300, (60, 80)), size=size, blend=blend, cutoff=CUTOFF)


@pytest.mark.parametrize("kind", ["off-screen", "sub-pixel", "huge", "thin", "crowded"])
def test_matches_reference_on_special_gaussians(kind):
    compare_renders(special_gaussians(kind, (37, 61)), size=(15, 17), cutoff=CUTOFF)


@pytest.mark.parametrize("channels", [1, 4, 16])
def test_matches_reference_in_any_number_of_channels(channels):
    compare_renders(scatter(90, (40, 50), channels=channels), size=(13, 30), cutoff=CUTOFF)


def test_gradients_of_widening_have_no_singular_case():
    """Round Gaussians have no axes, and of some Gaussians only one axis is widened."""
    g = scatter(6, (9, 9), dtype=torch.float64)
    g.log_scale[:3, 1] = g.log_scale[:3, 0]
    packed = g.packed().requires_grad_()
    for spread in ((0.7, 0.2), (0.0, 2.0)):
        torch.autograd.gradcheck(lambda p, s=spread: footprint.widened(p, *s), packed)


def test_gaussians_keep_their_integral():
    g = scatter(50, (64, 96), dtype=torch.float64)
    wide = footprint.widened(g.packed(), 3.0, 0.25)
    area = wide[:, 2] * wide[:, 4] * wide[:, -1]  # over 2 pi
    torch.testing.assert_close(area, g.log_scale.sum(1).exp())
    torch.testing.assert_close(wide[:, 5:-1], g.color * wide[:, -1:])
    # Gaussians as wide as the distance of samples have a sum of samples that equals their integral.
    g = scatter(8, (64, 96), margin=-0.4, log_scale=(1.0, 1.2))
    whole, small = g.render(blend="sum", cutoff=6.0), g.render((32, 48), blend="sum", cutoff=6.0)
    torch.testing.assert_close(small.mean((0, 1)), whole.mean((0, 1)), rtol=1e-4, atol=1e-6)


def test_a_crop_is_the_same_part_bit_for_bit():
    g = scatter(300, (100, 140))
    whole = g.render(size=(45, 61))
    assert torch.equal(g.render(size=(45, 61), crop=(7, 20, 30, 33)), whole[7:37, 20:53])


def test_nothing_changes_at_full_size_and_above():
    g = scatter(200, (30, 40))
    for size in (None, (30, 40), (61, 83)):
        assert torch.equal(g.render(size=size), g.render(size=size, antialias=False))
    assert not torch.equal(g.render(size=(29, 40)), g.render(size=(29, 40), antialias=False))
    assert View.of((30, 40), (60, 10), None).spread == (15 / 12, 0)


# Against the averaged full render 40.1, 37.9 and 36.5 dB were seen, and 33.1, 27.5, 28.4 without.
@pytest.mark.parametrize(("size", "least"), [((48, 64), 37), ((24, 32), 34), ((24, 128), 34)])
def test_a_small_render_is_the_average_of_the_large_one(fitted, size, least):
    small = fitted.gaussians
    full = small.render()
    average = F.adaptive_avg_pool2d(full.permute(2, 0, 1), size).permute(1, 2, 0)
    with_it = metrics.psnr(small.render(size=size), average.clamp(0, 1))
    without = metrics.psnr(small.render(size=size, antialias=False), average.clamp(0, 1))
    assert with_it > least and with_it > without + 3


def test_an_empty_picture_is_black_at_any_size():
    empty = scatter(0, (20, 30))
    assert not empty.render(size=(3, 4)).any()
    assert empty.render(size=(3, 4)).shape == (3, 4, 3)
    assert torch.equal(reference.render(empty, size=(3, 4)), empty.render(size=(3, 4)))
