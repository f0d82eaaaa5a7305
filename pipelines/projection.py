"""From centres to a heatmap: what the position network learns to predict."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

SIGMA = 1.0  # pixels
REACH = 4  # standard deviations


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
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise ValueError(f"xy has shape {list(xy.shape)}; expected [N, 2]")
    if not 0 <= sigma < 100:
        raise ValueError(f"sigma={sigma!r}; expected 0 <= sigma < 100 pixels")
    heat = blur(count(xy, size), sigma) if sigma else count(xy, size)
    return heat / heat.max().clamp(min=torch.finfo(heat.dtype).tiny)


def count(xy: Tensor, size: tuple[int, int]) -> Tensor:
    """Return how many centres lie in each pixel. [N, 2] -> [H, W]"""
    height, width = size
    column, row = xy.detach().floor().long().unbind(1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    pixels = row[inside] * width + column[inside]
    return torch.bincount(pixels, minlength=height * width).float().reshape(height, width)


def blur(heat: Tensor, sigma: float) -> Tensor:
    """Convolve with a Gaussian; beyond the border there is nothing. [H, W]"""
    reach = max(1, int(REACH * sigma + 0.5))
    offsets = torch.arange(-reach, reach + 1, dtype=heat.dtype, device=heat.device)
    weights = torch.exp(-0.5 * (offsets / sigma).square())
    weights = weights / weights.sum()
    rows = F.conv2d(heat[None, None], weights[None, None, :, None], padding=(reach, 0))
    return F.conv2d(rows, weights[None, None, None, :], padding=(0, reach))[0, 0]
