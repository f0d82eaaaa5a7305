"""The body of a .t2d file that is not lossless; docs/FORMAT.md describes it.

Gaussians are sorted along a curve. A progressive body has them in sections: the first is every
2^n-th along the curve, and each of the others halves the distance. So the first sections are a
coarse picture of the whole.
"""

from __future__ import annotations

import struct

import numpy as np

from taichi2dgs.storage import quantise, streams
from taichi2dgs.storage.quantise import OCTAVES, Cells, Grid
from taichi2dgs.storage.streams import LENGTH, Reader

GRID = struct.Struct("<4f4i")
CURVE = struct.Struct("<QB")  # the last place, and the number of sections
SECTIONS = 3  # of a progressive body that is written
MAX_SECTIONS = 8
MAX_PLACE = (1 << 48) - 1
DIGIT = 16  # bits of a place between its neighbours that are a digit; lower ones are noise


def coded(cells: Cells, progressive: bool = False) -> bytes:
    """Return the grid, and streams of what the whole numbers are."""
    place, _ = cells.grid.octaves(cells.whole[:, 2])
    coarse = cells.whole[:, :2] >> OCTAVES - place[:, None]  # without bits below the coarsest steps
    corner = coarse.min(0)
    code = quantise.curve(coarse - corner)
    order = np.argsort(code, kind="stable")
    whole, angle, code = cells.whole[order], cells.angle[order], code[order]
    weights = quantise.weights_of(whole[_by_color(cells.grid, whole), 4:])
    grid = GRID.pack(*cells.grid.steps, cells.grid.usual, cells.grid.octave, *corner)
    head = grid + weights[np.tril_indices(len(weights), -1)].astype("<i2").tobytes()
    if not progressive:
        distances = streams.write(np.diff(code, prepend=0))
        return head + distances + _section(cells.grid, whole, angle, weights)
    count = SECTIONS if _fits(SECTIONS, len(code)) else 1
    parts = [head, CURVE.pack(code[-1], count)]
    for number, rows in enumerate(_rows(len(code), count)):
        if number == 0:
            section = streams.write(np.diff(code[rows], prepend=0))
        else:
            before, after = _neighbours(code, code[-1], rows)
            low = _low(after - before)
            digits = code[rows] - before >> low
            section = streams.pack_mixed(digits, (after - before >> low) + 1)
            section += streams.pack(code[rows] - before, low)
        section += _section(cells.grid, whole[rows], angle[rows], weights)
        parts += [LENGTH.pack(len(section)), section]
    return b"".join(parts)


def decoded(reader: Reader, channels: int, progressive: bool, fraction: float = 1.0) -> Cells:
    """Return what `coded` was given, in the order of the file.

    Args:
        reader: of the body.
        channels: of the colours.
        progressive: whether it has sections.
        fraction: the share of the Gaussians that is wanted; sections beyond it are not read.

    Raises:
        ValueError: the body is damaged.
    """
    *steps, usual, octave, left, top = reader.unpack(GRID)
    grid = Grid(np.array(steps, "<f4"), usual, octave)
    if not np.isfinite(grid.steps).all():
        raise ValueError("damaged: a number is out of range")
    weights, below = np.zeros((channels, channels), np.int64), np.tril_indices(channels, -1)
    weights[below] = np.frombuffer(reader.take(2 * len(below[0])), "<i2")
    if not progressive:
        code = np.cumsum(reader.stream())
        return Cells(grid, *_read_section(reader, grid, weights, code, (left, top)))
    end, count = reader.unpack(CURVE)
    if not (1 <= count <= MAX_SECTIONS and _fits(count, reader.k) and end <= MAX_PLACE):
        raise ValueError("damaged: its sections are out of range")
    known, parts, read = np.zeros(reader.k, np.int64), [], 0
    for number, rows in enumerate(_rows(reader.k, count)):
        if read >= fraction * reader.k:
            break
        part = Reader(reader.take(*reader.unpack(LENGTH)), len(rows))
        if number == 0:
            known[rows] = np.cumsum(part.stream())
            if known[0] < 0 or (np.diff(known[rows], append=end) < 0).any():
                raise ValueError("damaged: places are not in order")
        else:
            before, after = _neighbours(known, end, rows)
            low = _low(after - before)
            digits = part.mixed((after - before >> low) + 1)
            known[rows] = before + (digits << low) + part.bits(low)
            if (known[rows] > after).any():
                raise ValueError("damaged: places are not in order")
        parts.append(_read_section(part, grid, weights, known[rows], (left, top)))
        read += len(rows)
    whole, angle = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Cells(grid, whole, angle)


def _fits(sections: int, k: int) -> bool:
    """Whether none of so many sections of k Gaussians is empty."""
    return 1 << sections < 4 * k


def _rows(k: int, sections: int) -> list[np.ndarray]:
    """Return which Gaussians along the curve each section has.

    >>> [rows.tolist() for rows in _rows(10, 3)]
    [[0, 4, 8], [2, 6], [1, 3, 5, 7, 9]]
    """
    halves = [1 << sections - 1 - number for number in range(1, sections)]
    return [np.arange(0, k, 1 << sections - 1), *(np.arange(h, k, 2 * h) for h in halves)]


def _neighbours(places: np.ndarray, end: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the neighbours of a section's Gaussians in earlier sections."""
    half, last = rows[0], len(places) - 1
    after = np.where(rows + half <= last, places[np.minimum(rows + half, last)], end)
    return places[rows - half], after


def _low(spans: np.ndarray) -> np.ndarray:
    """Return how many bits of numbers up to these are no digits, as they would have too many."""
    bits = np.frexp(spans.astype(np.float64))[1]  # of a whole number below 2^53, its bits
    return (bits - DIGIT).clip(0).astype(np.int64)


def _section(grid: Grid, whole: np.ndarray, angle: np.ndarray, weights: np.ndarray) -> bytes:
    """Code all but the places of Gaussians, which are in the order of the curve."""
    colors = whole[_by_color(grid, whole), 4:]
    columns = [whole[:, 2], whole[:, 3], *quantise.less_predicted(colors, weights).T]
    fine = OCTAVES - grid.octaves(whole[:, 2])[0]
    parts = [streams.write(column) for column in columns]
    parts.append(streams.pack_mixed(angle, quantise.angles(whole[:, 3])))
    return b"".join([*parts, *(streams.pack(whole[:, axis], fine) for axis in (0, 1))])


def _read_section(
    reader: Reader, grid: Grid, weights: np.ndarray, code: np.ndarray, corner: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Read what `_section` wrote: whole numbers and angles. [K, 4 + C], [K]"""
    log_size, stretch = reader.stream(), reader.stream()
    stored = np.stack([reader.stream() for _ in weights], axis=1)
    shape = np.stack([log_size, stretch], axis=1)
    if np.abs(shape).max() > quantise.MAX_CELL or stretch.min() < 0:
        raise ValueError("damaged: a number is out of range")
    angle = reader.mixed(quantise.angles(stretch))
    fine = OCTAVES - grid.octaves(log_size)[0]
    coarse = [least + quantise.gather(code >> axis) for axis, least in enumerate(corner)]
    bits = np.stack([reader.bits(fine) for _ in range(2)], axis=1)
    xy = (np.stack(coarse, axis=1) << fine[:, None]) + bits
    whole = np.concatenate([xy, shape, stored], axis=1)
    whole[_by_color(grid, whole), 4:] = quantise.with_predicted(stored, weights)
    return whole, angle


def _by_color(grid: Grid, whole: np.ndarray) -> np.ndarray:
    """Return in which order colours are stored: those of alike steps compress better together."""
    return np.argsort(grid.octaves(whole[:, 2])[1], kind="stable")
