"""Where a picture has detail: the density that starts are drawn from."""

import pytest
import torch

from nets.detail import blur, detail_density, gradient_density


def test_the_gradient_density_prefers_edges():
    image = torch.zeros(1, 3, 64, 64)
    image[..., 32:] = 1
    density = gradient_density(image)
    assert float(density.mean()) == pytest.approx(1)
    edge = float(density[..., 31:33].sum() / density.sum())
    assert edge == pytest.approx(0.7 + 0.3 * 2 / 64)


def test_a_flat_picture_has_a_uniform_density():
    flat = torch.full((1, 1, 5, 4), 0.3)
    for density in (gradient_density(flat), detail_density(flat, torch.tensor([3]))):
        torch.testing.assert_close(density, torch.ones_like(density))


def test_contrast_does_not_matter(photograph):
    image = photograph.permute(2, 0, 1)[None]
    k = torch.tensor([500])
    torch.testing.assert_close(detail_density(image / 8, k), detail_density(image, k))


def test_fewer_gaussians_have_a_flatter_density(photograph):
    images = photograph.permute(2, 0, 1).repeat(3, 1, 1, 1)
    spread = detail_density(images, torch.tensor([50, 500, 5000])).flatten(1).std(1)
    assert float(spread[0]) < 0.9 * float(spread[1]) < 0.8 * float(spread[2])


def test_blur_spreads_an_impulse_as_a_gaussian():
    maps = torch.zeros(2, 1, 41, 41)
    maps[..., 20, 20] = 1
    narrow, wide = blur(maps, torch.tensor([1.0, 3.0]))[:, 0]
    offset = torch.arange(-20.0, 21)
    for heat, sigma in ((narrow, 1.0), (wide, 3.0)):
        assert float(heat.sum()) == pytest.approx(1, abs=1e-5)
        assert float((heat.sum(0) * offset**2).sum()) == pytest.approx(sigma**2, rel=0.01)
        torch.testing.assert_close(heat, heat.T)
    alone = blur(maps[:1], torch.tensor([1.0]))[0, 0]
    torch.testing.assert_close(narrow, alone)  # others in the batch make no difference
