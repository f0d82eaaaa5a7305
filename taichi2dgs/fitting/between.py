"""Fits that look between the pixels: what a picture shows when it is enlarged.

A fit sees Gaussians at the centres of pixels only, and a narrow one may do as it likes beside them.
So in some of the steps the Gaussians are seen a quarter of a pixel away, in one of four directions
in turn, and compared with the picture interpolated there by Lanczos' filter. Such a step costs no
more than another; but steps that do not see the pixels' centres lose quality at the picture's own
size, most of all late ones, which are left out.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor

QUARTER = 0.25  # of a pixel
LANCZOS = 3  # pixels to either side that the filter reaches
# Fraction of the learning rates below which steps see the pixels' centres: the last 0.3 of a fit.
LATE = 0.2
PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))  # columns and rows of a picture of twice the size


def phase_of(step: int, share: float, fraction: float = 1.0) -> int | None:
    """Return which of `PHASES` a step sees, from 1, or None where it sees the pixels' centres.

    With a share of 0.25, steps 4, 8, 12, 16 and 20 see phases 1, 2, 3, 0 and 1.

    Args:
        step: its number, from 1.
        share: of the steps that see a phase.
        fraction: of the learning rates.
    """
    number = math.floor(step * share)
    if step < 1 or fraction < LATE or number == math.floor((step - 1) * share):
        return None
    return number % len(PHASES)


def offset_of(phase: int) -> tuple[float, float]:
    """Return by how much the Gaussians are moved, (x, y) in pixels, to see a phase."""
    column, row = PHASES[phase]
    return QUARTER - 2 * QUARTER * column, QUARTER - 2 * QUARTER * row


def phases(image: Tensor, tile: bool = False) -> list[Tensor]:
    """Return the picture a quarter of a pixel away from its pixels' centres, for all `PHASES`.

    Args:
        image: of any values. [H, W, C]
        tile: whether it wraps around.

    Returns:
        Four pictures. [H, W, C] each
    """
    if tile:
        height, width = (torch.arange(-LANCZOS, side + LANCZOS) % side for side in image.shape[:2])
        inner = slice(LANCZOS, -LANCZOS)
        around = image[height.to(image.device)][:, width.to(image.device)]
        return [one[inner, inner].contiguous() for one in phases(around)]
    twice = enlarged(image, 2)
    return [twice[row::2, column::2].contiguous() for column, row in PHASES]


def inner_weight(weight: Tensor) -> Tensor:
    """Return weights of what is interpolated: 0 where a pixel that does not count has a part in it.

    Args:
        weight: of each pixel. [H, W]
    """
    empty = (weight == 0).float()[None, None]
    near = torch.nn.functional.max_pool2d(empty, 2 * LANCZOS + 1, 1, LANCZOS)
    return weight.masked_fill(near[0, 0] > 0, 0.0)


def enlarged(image: Tensor, times: int) -> Tensor:
    """Enlarge a picture by Lanczos' filter, which may overshoot. [H, W, C] -> [tH, tW, C]"""
    height, width, channels = image.shape
    size, values = (times * width, times * height), image.float().cpu().numpy()
    planes = [Image.fromarray(np.ascontiguousarray(values[:, :, c])) for c in range(channels)]
    grown = [np.asarray(plane.resize(size, Image.Resampling.LANCZOS)) for plane in planes]
    return torch.from_numpy(np.stack(grown, axis=2))
