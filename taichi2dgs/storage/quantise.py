"""Parameters of Gaussians to whole numbers and back; docs/FORMAT.md says what they mean."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

MAX_CELL = (1 << 24) - 1  # the largest number of a column: float32 holds no finer ones
MAX_STORED = (1 << 31) - 1  # the largest number of a stream, of either sign: its least is an i32
TURNS = 8  # more angles for each step of stretch
SPACING = 5.12  # pixels between neighbours at which the presets are tuned: 10,000 in 512x512
USUAL = 0.3125  # the usual size of Gaussians, in spacings
FAR = float(1 << 17)  # pixels outside the picture, to which centres farther away are moved
LOG_SCALE = 16.0  # log-scales beyond it, of either sign, are taken there
COLOR = 1024.0  # colours beyond it, of either sign, are taken there
DEEP = 0.25  # of the steps of colours, for pictures of more than 8 bits
OCTAVES = 3  # powers of 2 by which the steps of centres differ at most, as sizes do
COLOR_OCTAVES = 2  # powers of 2 by which the steps of colours fall at most, as sizes grow
WEIGHT = 8  # bits below the point of weights of channels
ONE = 16  # bits below the point of `Grid.octave`


@dataclass(frozen=True)
class Precision:
    """Steps to which parameters of Gaussians of the usual size are rounded.

    Args:
        xy: of centres, in pixels.
        log_size: of the mean of both log-scales.
        stretch: of their difference.
        color: of every channel.
        usual: the usual log-size.
    """

    xy: float
    log_size: float
    stretch: float
    color: float
    usual: float

    @classmethod
    def of(cls, factor: float, k: int, size: tuple[int, int], is_deep: bool = False) -> Precision:
        """Return the steps of a preset for k Gaussians in a picture of (height, width).

        Pictures of more than 8 bits, which `is_deep` says, have finer steps of colours: gradients
        of 16 bits, for whose fits of 69 to 82 dB "high" costs 6 to 12 dB with those of 8, lose 2 to
        4 dB, for an eighth more bytes.

        The denser Gaussians are, the better they fit and the finer the steps have to be for the
        same loss; less so where they are sparse. Powers and ratios were measured on photographs
        with 1,000 to 40,000 per 512x512.
        """
        near = math.sqrt(size[0] * size[1] / max(k, 1)) / SPACING
        near = min(max(near, 0.1), 4.0)
        powers = (4 / 3, 2 / 3) if near < 1 else (0.75, 0.45)
        fine, coarse = (factor * near**power for power in powers)
        return cls(
            0.07 * fine,
            0.0167 * coarse,
            0.036 * coarse,
            0.0037 * fine * (DEEP if is_deep else 1.0),
            math.log(USUAL * SPACING * near),
        )


@dataclass(frozen=True)
class Grid:
    """What whole numbers are multiples of.

    A large Gaussian can be moved farther than a small one for the same loss, and its colour, which
    covers more pixels, less. So steps are powers of 2 times those of the usual size.

    Args:
        steps: of x and y, log-size, stretch and colours at the usual size, float32. [4]
        usual: the usual log-size, in its steps.
        octave: octaves of one step of log-size, in parts of 2^16.
    """

    steps: np.ndarray
    usual: int
    octave: int

    @classmethod
    def of(cls, precision: Precision, size: tuple[int, int]) -> Grid:
        p, widest = precision, 2 * FAR + max(size)
        most = [widest / (1 << OCTAVES), LOG_SCALE, 2 * LOG_SCALE, COLOR * (1 << COLOR_OCTAVES)]
        least = np.array(most) / (MAX_CELL - 1)
        steps = np.maximum([p.xy, p.log_size, p.stretch, p.color], least).astype("<f4")
        return cls(
            steps,
            round(p.usual / float(steps[1])),
            round(float(steps[1]) / math.log(2) * (1 << ONE)),
        )

    def octaves(self, log_size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return by which powers of 2 the steps of centres and of colours differ. [N] each"""
        above = (log_size - self.usual) * self.octave
        place = (above + (1 << ONE - 1) >> ONE).clip(-OCTAVES, OCTAVES)
        color = -((above + (1 << ONE)) >> ONE + 1)  # half as many
        return place, color.clip(-COLOR_OCTAVES, COLOR_OCTAVES)


@dataclass(frozen=True)
class Cells:
    """Whole numbers that stand for parameters, one row for each Gaussian.

    Args:
        grid: what they are multiples of.
        whole: of x, y, log-size, stretch and colours, each in the Gaussian's own steps. [N, 4 + C]
        angle: theta in parts of the half turn, see `angles`. [N]
    """

    grid: Grid
    whole: np.ndarray
    angle: np.ndarray

    def steps(self) -> np.ndarray:
        """Return the steps to which each parameter was rounded. [N, 5 + C]

        A log-scale is half the sum, and half the difference, of two numbers that were.
        """
        (xy, log_size, stretch, unit), whole = self.grid.steps.astype(np.float64), self.whole
        place, color = self.grid.octaves(whole[:, 2])
        channels = whole.shape[1] - 4
        columns = [
            *[np.ldexp(xy, place)] * 2,
            *[np.full(len(whole), math.hypot(log_size, stretch / 2))] * 2,
            math.pi / angles(whole[:, 3]),
            *[np.ldexp(unit, color)] * channels,
        ]
        return np.stack(columns, axis=1)

    def params(self) -> np.ndarray:
        """Return packed parameters, float32. [N, 5 + C]"""
        each, whole = self.steps(), self.whole
        _, of_size, of_stretch, _ = self.grid.steps.astype(np.float64)
        log_size, stretch = of_size * whole[:, 2], of_stretch * whole[:, 3]
        theta = self.angle * each[:, 4]
        shape = np.stack([log_size + stretch / 2, log_size - stretch / 2, theta], axis=1)
        xy, colors = whole[:, :2] * each[:, :2], whole[:, 4:] * each[:, 5:]
        return np.concatenate([xy, shape, colors], axis=1).astype(np.float32)


def angles(stretch: np.ndarray) -> np.ndarray:
    """Return how many angles Gaussians have: one if they are round, more the longer they are."""
    return 1 + TURNS * stretch


def quantise(params: np.ndarray, size: tuple[int, int], precision: Precision) -> Cells:
    """Round packed parameters, in their order. [N, 5 + C], of which N is at least 1"""
    values = params.astype(np.float64)
    grid, extent = Grid.of(precision, size), np.array([size[1], size[0]], dtype=np.float64)
    steps = grid.steps.astype(np.float64)
    scales = values[:, 2:4].clip(-LOG_SCALE, LOG_SCALE)
    theta = values[:, 4] + np.where(scales[:, 0] < scales[:, 1], math.pi / 2, 0.0)
    log_size = np.rint(scales.mean(1) / steps[1]).astype(np.int64)
    stretch = np.rint(np.abs(scales[:, 0] - scales[:, 1]) / steps[2]).astype(np.int64)
    count = angles(stretch)
    angle = np.rint(theta % math.pi * (count / math.pi)).astype(np.int64) % count
    place, color = grid.octaves(log_size)
    xy = values[:, :2].clip(-FAR, extent + FAR) / np.ldexp(steps[0], place)[:, None]
    colors = values[:, 5:].clip(-COLOR, COLOR) / np.ldexp(steps[3], color)[:, None]
    columns = [np.rint(xy), log_size[:, None], stretch[:, None], np.rint(colors)]
    return Cells(grid, np.concatenate(columns, axis=1).astype(np.int64), angle)


def weights_of(colors: np.ndarray) -> np.ndarray:
    """Return how each channel follows from those before it, in parts of 2^8. [N, C] -> [C, C]

    Of neighbours in the order of the rows, so that what they have in common does not count. A
    channel follows from none where what is left of it would be too large for a stream.
    """
    change, channels = np.diff(colors.astype(np.float64), axis=0), colors.shape[1]
    weights = np.zeros((channels, channels), np.int64)
    for c in range(1, channels):
        found = np.linalg.lstsq(change[:, :c], change[:, c], rcond=None)[0] if len(change) else 0.0
        weights[c, :c] = np.rint(np.clip(found, -100, 100) * (1 << WEIGHT))
        if np.abs(less_predicted(colors, weights)[:, c]).max() > MAX_STORED:
            weights[c] = 0
    return weights


def less_predicted(colors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Subtract from each channel what follows from those before it. [N, C]"""
    return colors - _predicted(colors, weights)


def with_predicted(stored: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Undo `less_predicted`, or raise ValueError if that gives no colours. [N, C]"""
    colors = stored.copy()
    for c in range(colors.shape[1]):
        colors[:, c] += _predicted(colors[:, :c], weights[c : c + 1, :c])[:, 0]
        if np.abs(colors[:, c]).max() > MAX_CELL:
            raise ValueError("damaged: a number is out of range")
    return colors


def _predicted(colors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return colors @ weights.T + (1 << WEIGHT - 1) >> WEIGHT


def curve(cells: np.ndarray) -> np.ndarray:
    """Return the places on a Z-shaped curve of (column, row), each below 2^24. [N, 2] -> [N]"""
    return spread(cells[:, 0]) | spread(cells[:, 1]) << 1


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
