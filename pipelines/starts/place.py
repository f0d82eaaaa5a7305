"""Where Gaussians start, without any learned prior."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from taichi2dgs.gaussians import Gaussians
from taichi2dgs.neighbours import neighbour_distances

NEIGHBOURS = 3
SCALE_PER_DISTANCE = 0.7
MIN_SCALE = 0.3  # pixels; duplicates would otherwise start infinitely small


def place(image: Tensor, pixels: Tensor, seed: int = 0) -> Gaussians:
    """Put a round Gaussian on each of the chosen pixels.

    The first on a pixel sits at its centre, any other at a random point of it. Scales are 0.7 times
    the mean distance to three neighbours; colours are the pixels'.

    Args:
        image: [H, W, C]
        pixels: pixel numbers, row by row. [N]
        seed: of the random points.

    Returns:
        Gaussians, on the device of the image.
    """
    height, width, channels = image.shape
    chosen = pixels.cpu().numpy()
    offset = np.random.default_rng(seed).random((len(chosen), 2))
    offset[np.unique(chosen, return_index=True)[1]] = 0.5
    corner = np.stack([chosen % width, chosen // width], axis=1)
    xy = torch.from_numpy(corner + offset).float()
    scale = SCALE_PER_DISTANCE * _mean_distance(xy, max(height, width))
    color = image.detach().float().reshape(-1, channels)[pixels.to(image.device)]
    return Gaussians(
        xy=xy,
        log_scale=scale.clamp(min=MIN_SCALE).log()[:, None].repeat(1, 2),
        theta=xy.new_zeros(len(xy)),
        color=color.cpu().contiguous(),
        size=(height, width),
    ).to(image.device)


def _mean_distance(xy: Tensor, alone: float) -> Tensor:
    """Mean distance to the nearest neighbours; `alone` where there are none. [N]"""
    distances = neighbour_distances(xy, NEIGHBOURS)
    there = torch.isfinite(distances)
    total = torch.where(there, distances, 0.0).sum(1)
    return torch.where(there[:, 0], total / there.sum(1).clamp(min=1), alone)
