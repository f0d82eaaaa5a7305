"""Where a picture has detail: what the position network starts from."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

UNIFORM_SHARE = 0.3  # share of the uniform density that Image-GS mixes with the gradient's
BLUR_PER_SPACING = 0.3
REACH = 4  # standard deviations of a blur
LEAST_ROWS = 64  # rows that a blur works on at once


def gradient_density(images: Tensor) -> Tensor:
    """Return Image-GS's sampling density: 70 % gradient magnitude, 30 % uniform; mean 1.

    Args:
        images: [B, C, H, W]

    Returns:
        [B, 1, H, W]
    """
    magnitude = gradient_magnitude(images)
    mean = magnitude.mean((2, 3), keepdim=True)
    flat = torch.ones_like(magnitude)
    relative = torch.where(mean > 0, magnitude / mean.where(mean > 0, 1.0), flat)
    return (1 - UNIFORM_SHARE) * relative + UNIFORM_SHARE * flat


def gradient_magnitude(images: Tensor) -> Tensor:
    """Return the length of the grey picture's central differences. [B, C, H, W] -> [B, 1, H, W]"""
    padded = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    dx = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    dy = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    return torch.hypot(dx, dy)


def detail_density(images: Tensor, k: Tensor) -> Tensor:
    """Return the gradient density, blurred over a part of the distance between k Gaussians.

    So it is the flatter, the fewer Gaussians there are to follow it.

    Args:
        images: [B, C, H, W]
        k: number of Gaussians per image. [B]

    Returns:
        In units of its mean. [B, 1, H, W]
    """
    density = gradient_density(images)
    spacing = (density[0].numel() / k.to(density)).sqrt()
    sigmas = BLUR_PER_SPACING * spacing
    height, width = density.shape[-2:]
    weights = _weights(sigmas)
    inside = _along(density.new_ones(len(density), height, 1), weights)
    across = _along(density.new_ones(len(density), width, 1), weights)
    share = (inside * across.mT)[:, None]  # share of the weights inside the picture
    return blur(density, sigmas) / share


def blur(maps: Tensor, sigmas: Tensor) -> Tensor:
    """Convolve each map with a Gaussian; beyond the border there is nothing.

    Args:
        maps: [B, 1, H, W]
        sigmas: one standard deviation per map, in pixels. [B]

    Returns:
        [B, 1, H, W]
    """
    weights = _weights(sigmas.to(maps))
    rows = _along(maps[:, 0], weights)
    return _along(rows.mT, weights).mT[:, None]


def _weights(sigmas: Tensor) -> Tensor:
    """Return the weights of a blur by the distance, from -R to R pixels. [B] -> [B, 2 R + 1]"""
    reaches = (REACH * sigmas + 0.5).int().clamp(min=1)
    reach = int(reaches.max())
    offsets = torch.arange(-reach, reach + 1, device=sigmas.device)
    weights = torch.exp(-0.5 * (offsets / sigmas[:, None]).square())
    weights = torch.where(offsets.abs() <= reaches[:, None], weights, 0.0)
    return weights / weights.sum(1, keepdim=True)


def _along(maps: Tensor, weights: Tensor) -> Tensor:
    """Convolve columns, block by block of rows, each the product of a band matrix and its rows.

    That is many times as fast as `conv2d`, which copies every pixel once for each weight.

    Args:
        maps: [B, H, W]
        weights: [B, 2 R + 1]

    Returns:
        [B, H, W]
    """
    height, reach = maps.shape[1], weights.shape[1] // 2
    side = max(reach, LEAST_ROWS)
    blocks = []
    for first in range(0, height, side):
        last = min(first + side, height)
        low, high = max(0, first - reach), min(last + reach, height)
        seen = torch.arange(low, high, device=maps.device)
        offset = seen - torch.arange(first, last, device=maps.device)[:, None]
        band = weights[:, (offset + reach).clamp(0, 2 * reach)]
        blocks.append(torch.where(offset.abs() <= reach, band, 0.0) @ maps[:, low:high])
    return torch.cat(blocks, 1)
