"""From centres to a heatmap: what the position network learns to predict."""

from __future__ import annotations

import torch
from torch import Tensor

from nets.detail import blur
from taichi2dgs.checks import checked_size, number, shown
from taichi2dgs.tensors import is_dense, kind_of

SIGMA = 1.0  # pixels


def project(xy: Tensor, size: tuple[int, int], sigma: float = SIGMA) -> Tensor:
    """Return the heatmap of centres: an impulse at each, blurred, scaled to a maximum of 1.

    Args:
        xy: centres in pixels; those outside the image do not count. [N, 2]
        size: (height, width) in pixels.
        sigma: of the Gaussian blur, in pixels; 0 for none.

    Returns:
        Values in [0, 1]; all 0 if no centre lies inside. [H, W]

    Raises:
        ValueError: an argument does not fit.

    Source: paper Eq. 11.
    """
    if not is_dense(xy) or xy.ndim != 2 or xy.shape[1] != 2:
        raise ValueError(f"xy is {kind_of(xy)}; expected a tensor, [N, 2]")
    if not 0 <= number(sigma) < 100:
        raise ValueError(f"sigma={shown(sigma)}; expected 0 <= sigma < 100 pixels")
    heat = count(xy, checked_size(size, "size"))
    if sigma:
        heat = blur(heat[None, None], heat.new_tensor([sigma]))[0, 0]
    return heat / heat.max().clamp(min=torch.finfo(heat.dtype).tiny)


def count(xy: Tensor, size: tuple[int, int]) -> Tensor:
    """Return how many centres lie in each pixel. [N, 2] -> [H, W]"""
    height, width = size
    x, y = xy.detach().unbind(1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)  # not so far, infinite or NaN
    pixels = y[inside].long() * width + x[inside].long()
    return torch.bincount(pixels, minlength=height * width).float().reshape(height, width)
