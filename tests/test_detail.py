"""Where a picture has detail: the density that starts are drawn from."""

import time

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

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
    torch.testing.assert_close(narrow, alone)  # the other picture of the batch makes no difference


@pytest.mark.parametrize("sigma", [0.2, 1.7, 20.0, 60.0])
def test_blur_equals_a_convolution(sigma):
    """The pictures have more rows than a block, or fewer pixels than the blur's reach."""
    maps = torch.rand(1, 1, 150, 97, generator=torch.Generator().manual_seed(0))
    reach = max(1, int(4 * sigma + 0.5))
    offset = torch.arange(-reach, reach + 1.0)
    weight = torch.exp(-0.5 * (offset / sigma) ** 2)
    weight = (weight / weight.sum())[None, None]
    expected = F.conv2d(maps, weight[..., None], padding=(reach, 0))
    expected = F.conv2d(expected, weight[:, :, None], padding=(0, reach))
    torch.testing.assert_close(blur(maps, torch.tensor([sigma])), expected, rtol=1e-5, atol=1e-7)


def test_borders_lose_nothing():
    images = torch.rand(2, 3, 40, 70, generator=torch.Generator().manual_seed(0))
    k, density = torch.tensor([3, 900]), gradient_density(images)
    sigmas = 0.3 * (40 * 70 / k).sqrt()
    expected = blur(density, sigmas) / blur(torch.ones_like(density), sigmas)
    torch.testing.assert_close(detail_density(images, k), expected)


def test_few_gaussians_on_a_large_picture_take_no_longer_than_a_glance():
    """It takes 0.2 s on one core. `conv2d` copies every pixel for each weight and took 16 s."""
    image = torch.rand(1, 3, 1080, 1920, generator=torch.Generator().manual_seed(0))
    began = time.perf_counter()
    density = detail_density(image, torch.tensor([100]))
    assert time.perf_counter() - began < 4
    assert float(density.mean()) == pytest.approx(1, abs=0.02)
