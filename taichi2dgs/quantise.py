"""Parameters of Gaussians to whole numbers and back; docs/FORMAT.md says what they mean."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

MAX_CELL = (1 << 24) - 1  # of one column: float32 holds no finer numbers
TURNS = 7  # more angles for each step of stretch
SPACING = 5.12  # pixels between neighbours at which the presets are tuned: 10,000 in 512x512
FAR = float(1 << 17)  # pixels outside the picture, to which centres farther away are moved
LOG_SCALE = 16.0  # log-scales beyond it, of either sign, are taken there
COLOR = 1024.0  # and colours beyond this


@dataclass(frozen=True)
class Precision:
    """Steps to which parameters are rounded.

    Args:
        xy: of centres, in pixels.
        log_size: of the mean of both log-scales.
        stretch: of their difference.
        color: of every channel.
    """

    xy: float
    log_size: float
    stretch: float
    color: float

    @classmethod
    def of(cls, factor: float, k: int, size: tuple[int, int]) -> Precision:
        """Return the steps of a preset for k Gaussians in a picture of (height, width).

        The denser Gaussians are, the better they fit and the finer the steps have to be for the
        same loss. Powers and ratios were measured on photographs from 2,500 to 40,000 per 512x512.
        """
        near = math.sqrt(size[0] * size[1] / max(k, 1)) / SPACING
        near = min(max(near, 0.1), 4.0)
        fine, coarse = factor * near ** (4 / 3), factor * near ** (2 / 3)
        return cls(0.036 * fine, 0.016 * coarse, 0.032 * coarse, 0.0051 * fine)


@dataclass(frozen=True)
class Cells:
    """Whole numbers that stand for parameters, one row for each Gaussian.

    Args:
        low, step: of the columns x, y, log-size, stretch and colours. [4 + C]
        whole: the same columns in steps above `low`. [N, 4 + C]
        angle: theta in parts of the half turn, see `angles`. [N]
    """

    low: np.ndarray
    step: np.ndarray
    whole: np.ndarray
    angle: np.ndarray

    def params(self) -> np.ndarray:
        """Return packed parameters, float32. [N, 5 + C]"""
        values = self.low.astype(np.float64) + self.step.astype(np.float64) * self.whole
        theta = self.angle * (math.pi / angles(self.whole[:, 3]))
        log_size, stretch = values[:, 2], values[:, 3]
        columns = [
            values[:, 0],
            values[:, 1],
            log_size + stretch / 2,
            log_size - stretch / 2,
            theta,
        ]
        return np.stack([*columns, *values[:, 4:].T], axis=1).astype(np.float32)

    def ordered(self) -> tuple[Cells, np.ndarray]:
        """Return these cells along a Z-shaped curve, and the curve's positions. [N]"""
        code = spread(self.whole[:, 0]) | spread(self.whole[:, 1]) << 1
        order = np.argsort(code, kind="stable")
        return Cells(self.low, self.step, self.whole[order], self.angle[order]), code[order]


def angles(stretch: np.ndarray) -> np.ndarray:
    """Return how many angles Gaussians have: one if they are round, more the longer they are."""
    return 1 + TURNS * stretch


def quantise(params: np.ndarray, size: tuple[int, int], precision: Precision) -> Cells:
    """Round packed parameters, in their order. [N, 5 + C], of which N is at least 1"""
    values = params.astype(np.float64)
    extent = np.array([size[1], size[0]], dtype=np.float64)
    scales = values[:, 2:4].clip(-LOG_SCALE, LOG_SCALE)
    theta = values[:, 4] + np.where(scales[:, 0] < scales[:, 1], math.pi / 2, 0.0)
    columns = np.concatenate([
        values[:, :2].clip(-FAR, extent + FAR), scales.mean(1)[:, None],
        np.abs(scales[:, 0] - scales[:, 1])[:, None], values[:, 5:].clip(-COLOR, COLOR),
    ], axis=1)  # fmt: skip
    low = columns.min(0)
    low[3] = 0.0  # no stretch is round
    p, channels = precision, params.shape[1] - 5
    steps = np.array([p.xy, p.xy, p.log_size, p.stretch] + [p.color] * channels)
    step = np.maximum(steps, (columns.max(0) - low) / (MAX_CELL - 1)).astype(np.float32)
    low = low.astype(np.float32)
    whole = np.rint((columns - low) / step).astype(np.int64).clip(0, MAX_CELL)
    count = angles(whole[:, 3])
    angle = np.rint(theta % math.pi * (count / math.pi)).astype(np.int64) % count
    return Cells(low, step, whole, angle)


def to_luma(colors: np.ndarray) -> np.ndarray:
    """Replace red, green and blue by luma and two differences, without loss. [N, C], C >= 3"""
    red, green, blue = colors[:, 0], colors[:, 1], colors[:, 2]
    orange = red - blue
    middle = blue + (orange >> 1)
    lime = green - middle
    return np.stack([middle + (lime >> 1), orange, lime, *colors[:, 3:].T], axis=1)


def from_luma(colors: np.ndarray) -> np.ndarray:
    """Undo `to_luma`. [N, C]"""
    luma, orange, lime = colors[:, 0], colors[:, 1], colors[:, 2]
    middle = luma - (lime >> 1)
    blue = middle - (orange >> 1)
    return np.stack([blue + orange, lime + middle, blue, *colors[:, 3:].T], axis=1)


def spread(whole: np.ndarray) -> np.ndarray:
    """Put bit b of whole numbers at bit 2 b."""
    code = np.zeros_like(whole)
    for bit in range(MAX_CELL.bit_length()):
        code |= (whole >> bit & 1) << 2 * bit
    return code


def gather(code: np.ndarray) -> np.ndarray:
    """Undo `spread`, whatever the odd bits are."""
    whole = np.zeros_like(code)
    for bit in range(MAX_CELL.bit_length()):
        whole |= (code >> 2 * bit & 1) << bit
    return whole
