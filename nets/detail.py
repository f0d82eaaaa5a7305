"""Where a picture has detail: what the position network starts from."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

UNIFORM_SHARE = 0.3  # of Image-GS's mixture of gradient magnitude and uniform
BLUR_PER_SPACING = 0.3
REACH = 4  # standard deviations of a blur


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
    return blur(density, sigmas) / blur(torch.ones_like(density), sigmas)  # borders lose nothing


def blur(maps: Tensor, sigmas: Tensor) -> Tensor:
    """Convolve each map with a Gaussian; beyond the border there is nothing.

    Args:
        maps: [B, 1, H, W]
        sigmas: one standard deviation per map, in pixels. [B]

    Returns:
        [B, 1, H, W]
    """
    sigmas = sigmas.to(maps.device)
    reaches = (REACH * sigmas + 0.5).int().clamp(min=1)
    reach = int(reaches.max())
    offsets = torch.arange(-reach, reach + 1, device=maps.device)
    weights = torch.exp(-0.5 * (offsets / sigmas[:, None].to(maps)).square())
    weights = torch.where(offsets.abs() <= reaches[:, None], weights, 0.0)
    weights = (weights / weights.sum(1, keepdim=True))[:, None]
    number = len(maps)
    together = maps.transpose(0, 1)
    rows = F.conv2d(together, weights[..., None], padding=(reach, 0), groups=number)
    both = F.conv2d(rows, weights[:, :, None], padding=(0, reach), groups=number)
    return both.transpose(0, 1)
