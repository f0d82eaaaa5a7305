"""Gaussians as splats of 3D viewers, which blend by sorted opacity: approximate, and by how much.

Our blend divides by the sum of weights; theirs paints one splat over the other. The same numbers
would look dark and blotchy there. So splats are wider and opaque, the large ones behind, and have
the colours that come nearest to the render: painted pictures are linear in them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from taichi2dgs.gaussians import Gaussians
from taichi2dgs.metrics import psnr_of_mse
from taichi2dgs.storage.maps import displayed

WIDER = 1.7  # times a Gaussian's deviations: of 1 to 2.4 the best on photographs, by a decibel
OPACITY = 0.99
SUPPORT = 3.0  # deviations within which viewers draw a splat
LEAST = 0.3  # pixels, of a deviation
STEPS = 10  # of the search for colours
TILE, MARGIN = 512, 32  # pixels that are solved at once, and beside them
FAINT = 1e-3  # weight that is left out


class Splats(NamedTuple):
    """Splats in the picture's plane, the farthest first.

    Args:
        xy: centres in pixels, as those of Gaussians. [N, 2]
        scale: standard deviations in pixels. [N, 2]
        theta: rotation of the first axis in radians. [N]
        color: RGB in [0, 1]. [N, 3]
        opacity: in [0, 1]. [N]
        size: (height, width) of the picture.
        psnr: of their blend, against the Gaussians' render, in dB.
    """

    xy: np.ndarray
    scale: np.ndarray
    theta: np.ndarray
    color: np.ndarray
    opacity: np.ndarray
    size: tuple[int, int]
    psnr: float


def splats_of(gaussians: Gaussians) -> Splats:
    """Return splats that look as Gaussians do, as nearly as sorted opacity can.

    Of several maps they look as the first.

    Raises:
        ValueError: there are more than 4 channels, or no Gaussians.
    """
    maps = gaussians.maps
    if (gaussians.channels > 4 and not maps) or not len(gaussians):
        raise ValueError(
            f"gaussians has {len(gaussians)} of {gaussians.channels} channels; splats have colours "
            "of 1 to 4, and there is at least one"
        )
    g = gaussians.detach().to("cpu", torch.float32)
    order = g.log_scale.sum(1).argsort(descending=True, stable=True)
    seen = displayed(g.render().clamp(0, 1), maps)
    target = as_rgba(seen)
    own = as_rgba(displayed(g.color.clamp(0, 1), maps))[order, 3].numpy()
    shape = Splats(
        g.xy[order].numpy(),
        np.maximum(WIDER * g.log_scale[order].exp().numpy(), LEAST),
        g.theta[order].numpy(),
        np.zeros((len(g), 3), np.float32),
        OPACITY * own,
        g.size,
        0.0,
    )
    return _colored(shape, target.numpy(), 3 if seen.shape[2] % 2 else 4)


def as_rgba(color: Tensor) -> Tensor:
    """Return colours of 1 to 4 channels as RGB and opacity, by which they stay multiplied."""
    channels = color.shape[-1]
    rgb = color[..., :3] if channels > 2 else color[..., :1].expand(*color.shape[:-1], 3)
    alpha = torch.ones_like(rgb[..., :1]) if channels % 2 else color[..., -1:]
    return torch.cat([rgb, alpha], dim=-1)


def _colored(splats: Splats, target: np.ndarray, channels: int) -> Splats:
    """Return splats with the colours that come nearest to a picture, and how near it is.

    Args:
        splats: of any colour.
        target: colours and opacity. [H, W, 4]
        channels: of these that count for the PSNR.
    """
    height, width = splats.size
    color = np.full((len(splats.xy), 3), np.nan, np.float32)
    tiles = [(top, left) for top in range(0, height, TILE) for left in range(0, width, TILE)]
    for top, left in tiles:
        y0, x0, y1, x1 = around = _box(splats.size, top, left, MARGIN)
        rows, weights, _ = _painting(splats, around)
        found = _nearest_colors(weights, target[y0:y1, x0:x1, :3].reshape(-1, 3))
        x, y = splats.xy[rows].T
        mine = ((y >= top) | (top == 0)) & ((y < top + TILE) | (top + TILE >= height))
        mine &= ((x >= left) | (left == 0)) & ((x < left + TILE) | (left + TILE >= width))
        color[rows[mine]] = found[mine]
    kept = np.isfinite(color).all(1)  # what reaches no pixel would be seen beside the picture
    colored = Splats(
        splats.xy[kept], splats.scale[kept], splats.theta[kept], color[kept], splats.opacity[kept],
        splats.size, 0.0,
    )  # fmt: skip
    error = 0.0
    for top, left in tiles:
        y0, x0, y1, x1 = box = _box(splats.size, top, left, 0)
        rows, weights, behind = _painting(colored, box)
        seen = np.concatenate([weights.times(colored.color[rows]), 1 - behind[:, None]], 1)
        wanted = target[y0:y1, x0:x1].reshape(-1, 4)
        error += float(np.square(seen - wanted)[:, :channels].sum())
    return colored._replace(psnr=psnr_of_mse(error / (channels * height * width)))


def _box(size: tuple[int, int], top: int, left: int, margin: int) -> tuple[int, int, int, int]:
    """Return top, left, bottom and right of a tile with what is beside it."""
    height, width = size
    return (
        max(0, top - margin), max(0, left - margin), min(height, top + TILE + margin),
        min(width, left + TILE + margin),
    )  # fmt: skip


class _Weights(NamedTuple):
    """How much of each splat is seen at each pixel: a sparse matrix [P, n], entry by entry."""

    pixels: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    shape: tuple[int, int]

    def times(self, color: np.ndarray) -> np.ndarray:
        """Return the matrix times colours. [n, C] -> [P, C]"""
        parts = (self.values * channel[self.columns] for channel in color.T)
        return np.stack([np.bincount(self.pixels, part, self.shape[0]) for part in parts], 1)

    def turned_times(self, color: np.ndarray) -> np.ndarray:
        """Return the transposed matrix times colours. [P, C] -> [n, C]"""
        parts = (self.values * channel[self.pixels] for channel in color.T)
        return np.stack([np.bincount(self.columns, part, self.shape[1]) for part in parts], 1)


def _painting(
    splats: Splats, box: tuple[int, int, int, int]
) -> tuple[np.ndarray, _Weights, np.ndarray]:
    """Return how much of each splat is seen at each pixel of a box, from the nearest one on.

    Args:
        splats: the farthest first.
        box: top, left, bottom and right in pixels.

    Returns:
        The rows of those that reach the box; their weights [P, n]; and the share of what is
        behind all of them. [P]
    """
    top, left, bottom, right = box
    cos, sin = np.cos(splats.theta), np.sin(splats.theta)
    half_x = SUPPORT * np.hypot(cos * splats.scale[:, 0], sin * splats.scale[:, 1])
    half_y = SUPPORT * np.hypot(sin * splats.scale[:, 0], cos * splats.scale[:, 1])
    x, y = splats.xy.T
    x0, x1 = np.maximum(left, np.floor(x - half_x)), np.minimum(right, np.ceil(x + half_x))
    y0, y1 = np.maximum(top, np.floor(y - half_y)), np.minimum(bottom, np.ceil(y + half_y))
    rows = np.flatnonzero((x0 < x1) & (y0 < y1))
    edges = np.stack([x0, x1, y0, y1], 1)[rows].astype(int)
    ahead = np.ones((bottom - top, right - left), np.float32)  # what is seen through those before
    numbers = np.arange(ahead.size).reshape(ahead.shape)
    pixels: list[np.ndarray] = [np.zeros(0, int)]
    columns: list[np.ndarray] = [np.zeros(0, int)]
    values: list[np.ndarray] = [np.zeros(0)]
    for column in range(len(rows) - 1, -1, -1):
        i, (a, b, c, d) = rows[column], edges[column]
        dx, dy = np.arange(a, b) + 0.5 - x[i], (np.arange(c, d) + 0.5 - y[i])[:, None]
        along = (cos[i] * dx + sin[i] * dy) / splats.scale[i, 0]
        across = (cos[i] * dy - sin[i] * dx) / splats.scale[i, 1]
        squared = along * along + across * across
        alpha = np.where(squared < SUPPORT**2, splats.opacity[i] * np.exp(-0.5 * squared), 0)
        part = np.s_[c - top : d - top, a - left : b - left]
        weight = ahead[part] * alpha
        kept = weight > FAINT
        pixels.append(numbers[part][kept])
        values.append(weight[kept])
        columns.append(np.full(len(values[-1]), column))
        ahead[part] *= 1 - alpha
    where, which, much = (np.concatenate(parts) for parts in (pixels, columns, values))
    return rows, _Weights(where, which, much, (ahead.size, len(rows))), ahead.reshape(-1)


def _nearest_colors(weights: _Weights, wanted: np.ndarray) -> np.ndarray:
    """Return colours in [0, 1] whose painting comes near to a picture. [P, 3] -> [n, 3]

    It is a projected gradient descent with momentum. As no pixel's weights sum to more than 1,
    dividing by the sum over each splat's pixels makes every step one that cannot overshoot.
    """
    seen = weights.turned_times(np.ones((len(wanted), 1))).clip(min=FAINT)
    color = (weights.turned_times(wanted) / seen).clip(0, 1)
    ahead, momentum = color, 1.0
    for _ in range(STEPS):
        step = weights.turned_times(wanted - weights.times(ahead)) / seen
        found = (ahead + step).clip(0, 1)
        following = (1 + (1 + 4 * momentum * momentum) ** 0.5) / 2
        ahead = found + (momentum - 1) / following * (found - color)
        color, momentum = found, following
    return color
