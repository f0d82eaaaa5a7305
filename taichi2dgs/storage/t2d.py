"""The .t2d file format: Gaussians as few bytes; docs/FORMAT.md describes it."""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from taichi2dgs.checks import shown
from taichi2dgs.gaussians import Gaussians, check_gaussians
from taichi2dgs.settings import BLENDS, MAX_CHANNELS, QUALITIES, RenderSettings
from taichi2dgs.storage import quantise, streams
from taichi2dgs.storage.paths import contents, named, one_line, writing
from taichi2dgs.storage.quantise import OCTAVES, Cells, Grid, Precision
from taichi2dgs.storage.streams import Reader

MAGIC = b"\x8aT2D\r\n\x1a\n"
VERSION = 2
MAX_K = 1 << 24
MAX_PIXELS = 1 << 28
MAX_BYTES = 1 << 31  # bytes of a file; the longest that is written has three quarters of them
PER_BYTE = 64  # Gaussians per byte of a file, at most: bounds what a small file makes a reader hold
HEADER = struct.Struct("<8sHBBIIIBBdd")
GRID = struct.Struct("<4f4i")


@dataclass(frozen=True)
class Contents:
    """What a .t2d file holds.

    Args:
        gaussians: see `Gaussians`.
        quality: the name of its preset.
        bytes: of the whole file.
        steps: of centres, log-size, stretch and colours of Gaussians of the usual size; empty if
            lossless.
    """

    gaussians: Gaussians
    quality: str
    bytes: int
    steps: list[float]


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file, complete or not at all.

    Raises:
        WriteError: it cannot be written; the message names it.
    """
    with writing(path) as temporary:
        Path(temporary).write_bytes(data)


def load(path: str | os.PathLike[str]) -> Gaussians:
    """Read Gaussians that `Gaussians.save` wrote.

    Args:
        path: of a file, a pipe or a device; "-" is the standard input.

    Raises:
        ValueError: the file is missing, damaged or holds something else; the message names it.

    >>> import taichi2dgs as t2
    >>> t2.encode("sample:astronaut", k=100, steps=0, start="random").save("photo.t2d")
    >>> load("photo.t2d")
    Gaussians(100; 512x512; 3 channels; cpu)
    """
    return read(path).gaussians


def read(path: str | os.PathLike[str]) -> Contents:
    """Read a .t2d file, and say how it was coded; see `load`."""
    data = contents(path, MAX_BYTES)
    try:
        return decode(data)
    except ValueError as error:
        raise ValueError(f"{named(path)}: not a file of Gaussians ({one_line(error)})") from error


def encode(gaussians: Gaussians, quality: str = "high") -> bytes:
    """Return the content of a .t2d file; see `Gaussians.save`."""
    precision = checked_precision(gaussians, quality)
    s, params = gaussians.settings, gaussians.packed().detach().cpu().float().numpy()
    if not np.isfinite(params).all():
        bad = int(np.flatnonzero(~np.isfinite(params).all(1))[0])
        raise ValueError(
            f"gaussians has numbers beyond float32 at Gaussian {bad}; a file holds none"
        )
    height, width = gaussians.size
    header = HEADER.pack(
        MAGIC,
        VERSION,
        list(QUALITIES).index(quality),
        gaussians.channels,
        height,
        width,
        len(params),
        s.top_k,
        BLENDS.index(s.blend),
        s.cutoff,
        s.eps,
    )
    if not len(params):
        body = b""
    elif precision is None:
        body = b"".join(streams.write(column.view(np.uint32)) for column in params.T.copy())
    else:
        body = _coded(quantise.quantise(params, gaussians.size, precision))
    body += bytes(max(0, len(params) // PER_BYTE - len(body)))
    return header + body + struct.pack("<I", zlib.crc32(header + body))


def checked_precision(gaussians: Gaussians, quality: str) -> Precision | None:
    """Return the steps of a quality, None for "lossless".

    Raises:
        ValueError: the quality is unknown, or the Gaussians are none or do not fit in a file.
    """
    check_gaussians(gaussians)
    if not isinstance(quality, str) or quality not in QUALITIES:
        raise ValueError(f"quality={shown(quality)}; expected one of {', '.join(QUALITIES)}")
    height, width = gaussians.size
    if len(gaussians) > MAX_K or height * width > MAX_PIXELS:
        raise ValueError(
            f"{len(gaussians)} Gaussians in {height}x{width} pixels; a file holds at most {MAX_K} "
            f"in {MAX_PIXELS} pixels"
        )
    factor = QUALITIES[quality]
    return None if factor is None else Precision.of(factor, len(gaussians), gaussians.size)


def decode(data: bytes) -> Contents:
    """Return what the content of a .t2d file holds, or raise ValueError."""
    if len(data) < HEADER.size + 4 or not data.startswith(MAGIC):
        raise ValueError("it does not begin as a .t2d file does")
    _, version, preset, channels, height, width, k, *blending = HEADER.unpack_from(data)
    if version != VERSION:
        raise ValueError(f"version {version}; this library reads version {VERSION}")
    if zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise ValueError("damaged or cut off: its checksum is wrong")
    top_k, blend, cutoff, eps = blending
    if not (
        preset < len(QUALITIES)
        and 1 <= channels <= MAX_CHANNELS
        and blend < len(BLENDS)
        and 1 <= height * width <= MAX_PIXELS
        and k <= min(MAX_K, PER_BYTE * len(data))
    ):
        raise ValueError("its header is out of range")
    settings = RenderSettings(top_k, cutoff, eps, BLENDS[blend])
    reader, steps = Reader(data[HEADER.size : -4], k), []
    if not k:
        params = np.zeros((0, 5 + channels), np.float32)
    elif preset == 0:
        columns = [reader.stream().astype(np.uint32).view(np.float32) for _ in range(5 + channels)]
        params = np.stack(columns, axis=1)
    else:
        cells = _decoded(reader, channels)
        params = cells.params()
        steps = cells.grid.steps.tolist()
    gaussians = Gaussians.from_packed(torch.from_numpy(params), (height, width), settings)
    return Contents(gaussians, list(QUALITIES)[preset], len(data), steps)


def _coded(cells: Cells) -> bytes:
    """The grid, and streams of what the whole numbers are."""
    place, _ = cells.grid.octaves(cells.whole[:, 2])
    fine = OCTAVES - place[:, None]  # bits of x and y below the coarsest steps
    coarse = cells.whole[:, :2] >> fine
    corner = coarse.min(0)
    code = quantise.curve(coarse - corner)
    order = np.argsort(code, kind="stable")
    whole, angle, (fine,) = cells.whole[order], cells.angle[order], fine[order].T
    by_color = _by_color(cells.grid, whole)
    colors = whole[by_color, 4:]
    weights = quantise.weights_of(colors)
    grid = GRID.pack(*cells.grid.steps, cells.grid.usual, cells.grid.octave, *corner)
    parts = [grid, weights[np.tril_indices(len(weights), -1)].astype("<i2").tobytes()]
    columns = np.diff(code[order], prepend=0), whole[:, 2], whole[:, 3]
    parts += map(streams.write, [*columns, *quantise.less_predicted(colors, weights).T])
    parts.append(streams.pack_mixed(angle, quantise.angles(whole[:, 3])))
    parts += (streams.pack(whole[:, axis], fine) for axis in (0, 1))
    return b"".join(parts)


def _by_color(grid: Grid, whole: np.ndarray) -> np.ndarray:
    """Return in which order colours are stored: those of alike steps compress better together."""
    return np.argsort(grid.octaves(whole[:, 2])[1], kind="stable")


def _decoded(reader: Reader, channels: int) -> Cells:
    *steps, usual, octave, left, top = reader.unpack(GRID)
    grid = Grid(np.array(steps, "<f4"), usual, octave)
    weights, below = np.zeros((channels, channels), np.int64), np.tril_indices(channels, -1)
    weights[below] = np.frombuffer(reader.take(2 * len(below[0])), "<i2")
    code = np.cumsum(reader.stream())
    log_size, stretch = reader.stream(), reader.stream()
    stored = np.stack([reader.stream() for _ in range(channels)], axis=1)
    shape = np.stack([log_size, stretch], axis=1)
    beyond = np.abs(shape).max() > quantise.MAX_CELL or stretch.min() < 0
    if beyond or not np.isfinite(grid.steps).all():
        raise ValueError("damaged: a number is out of range")
    angle = reader.mixed(quantise.angles(stretch))
    fine = OCTAVES - grid.octaves(log_size)[0]
    coarse = np.stack([left + quantise.gather(code), top + quantise.gather(code >> 1)], axis=1)
    xy = (coarse << fine[:, None]) + np.stack([reader.bits(fine) for _ in range(2)], axis=1)
    whole = np.concatenate([xy, shape, stored], axis=1)
    whole[_by_color(grid, whole), 4:] = quantise.with_predicted(stored, weights)
    return Cells(grid, whole, angle)
