"""The .t2d file format: Gaussians as few bytes; docs/FORMAT.md describes it."""

from __future__ import annotations

import lzma
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taichi2dgs import quantise
from taichi2dgs.files import one_line, replacing
from taichi2dgs.gaussians import MAX_CHANNELS, Gaussians
from taichi2dgs.quantise import Cells, Precision
from taichi2dgs.settings import BLENDS, RenderSettings

MAGIC = b"\x8aT2D\r\n\x1a\n"
VERSION = 1
QUALITIES = {"lossless": None, "high": 1.0, "medium": 2.5, "small": 5.0}  # factors of the steps
MAX_K = 1 << 24
MAX_PIXELS = 1 << 28
PER_BYTE = 64  # Gaussians per byte of a file, at most: bounds what a small file makes a reader hold
HEADER = struct.Struct("<8sHBBIIIBBdd")
STREAM = struct.Struct("<iB")
LENGTH = struct.Struct("<I")
FILTERS = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 0, "lp": 0, "pb": 0}]
PLANES = 6  # bytes of the largest number: a distance along the curve, of 48 bits


@dataclass(frozen=True)
class Contents:
    """What a .t2d file holds.

    Args:
        gaussians: see `Gaussians`.
        quality: the name of its preset.
        bytes: of the whole file.
        low, step, bits: of the columns x, y, log-size, stretch and colours; empty if lossless.
    """

    gaussians: Gaussians
    quality: str
    bytes: int
    low: list[float]
    step: list[float]
    bits: list[int]


def save(
    path: str | os.PathLike[str],
    gaussians: Gaussians,
    quality: str = "high",
    image: Tensor | np.ndarray | None = None,
    refine: int = 0,
) -> None:
    """Write Gaussians to a .t2d file, complete or not at all; see `Gaussians.save`."""
    precision = checked_precision(gaussians, quality)
    if not isinstance(refine, int) or refine < 0:
        raise ValueError(f"refine={refine!r}; expected a whole number of steps, 0 or more")
    if refine and precision is not None:
        if image is None:
            raise ValueError(f"refine={refine} without an image; expected the one that was fitted")
        from taichi2dgs.refine import refine as refined

        gaussians = refined(gaussians, image, precision, refine)
    write(path, encode(gaussians, quality))


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file, complete or not at all.

    Raises:
        ValueError: it cannot be written; the message names it.
    """
    try:
        with replacing(Path(path)) as temporary:
            Path(temporary).write_bytes(data)
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({one_line(error)})") from error


def load(path: str | os.PathLike[str]) -> Gaussians:
    """Read Gaussians that `Gaussians.save` wrote.

    Raises:
        ValueError: the file is missing, damaged or holds something else; the message names it.
    """
    return read(path).gaussians


def read(path: str | os.PathLike[str]) -> Contents:
    """Read a .t2d file, and say how it was coded; see `load`."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        return decode(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a file of Gaussians ({one_line(error)})") from error


def encode(gaussians: Gaussians, quality: str = "high") -> bytes:
    """Return the content of a .t2d file; see `Gaussians.save`."""
    precision = checked_precision(gaussians, quality)
    s, params = gaussians.settings, gaussians.packed().detach().cpu().float().numpy()
    height, width = gaussians.size
    header = HEADER.pack(
        MAGIC, VERSION, list(QUALITIES).index(quality), gaussians.channels, height, width,
        len(params), s.top_k, BLENDS.index(s.blend), s.cutoff, s.eps,
    )  # fmt: skip
    if not len(params):
        body = b""
    elif precision is None:
        body = b"".join(_stream(column.view(np.uint32)) for column in params.T.copy())
    else:
        body = _coded(quantise.quantise(params, gaussians.size, precision))
    body += bytes(max(0, len(params) // PER_BYTE - len(body)))
    return header + body + struct.pack("<I", zlib.crc32(header + body))


def checked_precision(gaussians: Gaussians, quality: str) -> Precision | None:
    """Return the steps of a quality, None for "lossless".

    Raises:
        ValueError: the quality is unknown, or the Gaussians do not fit in a file.
    """
    if quality not in QUALITIES:
        raise ValueError(f"quality={quality!r}; expected one of {', '.join(QUALITIES)}")
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
        preset < len(QUALITIES) and 1 <= channels <= MAX_CHANNELS and blend < len(BLENDS)
        and 1 <= height * width <= MAX_PIXELS and k <= min(MAX_K, PER_BYTE * len(data))
    ):  # fmt: skip
        raise ValueError("its header is out of range")
    settings = RenderSettings(top_k, cutoff, eps, BLENDS[blend])
    reader, table = _Reader(data[HEADER.size : -4], k), ([], [], [])
    if not k:
        params = np.zeros((0, 5 + channels), np.float32)
    elif preset == 0:
        columns = [reader.stream().astype(np.uint32).view(np.float32) for _ in range(5 + channels)]
        params = np.stack(columns, axis=1)
    else:
        cells = _decoded(reader, channels)
        params = cells.params()
        bits = [int(top).bit_length() for top in cells.whole.max(0)]
        table = (cells.low.tolist(), cells.step.tolist(), bits)
    gaussians = Gaussians.from_packed(torch.from_numpy(params), (height, width), settings)
    return Contents(gaussians, list(QUALITIES)[preset], len(data), *table)


def _coded(cells: Cells) -> bytes:
    """The steps, and a stream for the positions on the curve and every other column."""
    cells, code = cells.ordered()
    colors = cells.whole[:, 4:]
    by_stretch = np.argsort(cells.whole[:, 3], kind="stable")
    columns = [
        np.diff(code, prepend=0), cells.whole[:, 2], cells.whole[:, 3], cells.angle[by_stretch],
        *(quantise.to_luma(colors) if colors.shape[1] >= 3 else colors).T,
    ]  # fmt: skip
    table = np.stack([cells.low, cells.step], axis=1).astype("<f4").tobytes()
    return table + b"".join(map(_stream, columns))


def _decoded(reader: _Reader, channels: int) -> Cells:
    table = np.frombuffer(reader.take(8 * (4 + channels)), "<f4").reshape(-1, 2)
    if not np.isfinite(table).all():
        raise ValueError("damaged: a step is not finite")
    code = np.cumsum(reader.stream())
    log_size, stretch, turned = reader.stream(), reader.stream(), reader.stream()
    colors = np.stack([reader.stream() for _ in range(channels)], axis=1)
    colors = quantise.from_luma(colors) if channels >= 3 else colors
    angle = np.empty_like(turned)
    angle[np.argsort(stretch, kind="stable")] = turned
    place = np.stack([quantise.gather(code), quantise.gather(code >> 1), log_size, stretch], axis=1)
    whole = np.concatenate([place, colors], axis=1)
    if whole.min() < 0 or whole.max() > quantise.MAX_CELL:
        raise ValueError("damaged: a number is out of range")
    return Cells(table[:, 0], table[:, 1], whole, angle)


def _stream(whole: np.ndarray) -> bytes:
    """Code whole numbers: the least of them, then planes of bytes, each compressed."""
    least = 0 if whole.dtype == np.uint32 else min(int(whole.min()), (1 << 31) - 1)
    above = whole.astype(np.int64) - least
    count = max(1, -(-int(above.max()).bit_length() // 8))
    out = [STREAM.pack(least, count)]
    for plane in range(count):
        octets = (above >> 8 * plane & 255).astype(np.uint8).tobytes()
        coded = lzma.compress(octets, lzma.FORMAT_RAW, filters=FILTERS)
        out += [LENGTH.pack(len(coded)), coded]
    return b"".join(out)


class _Reader:
    """Takes apart the part of a file between header and checksum."""

    def __init__(self, data: bytes, k: int) -> None:
        self.data, self.k, self.at = data, k, 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise ValueError("damaged: it ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(self.take(layout.size))

    def stream(self) -> np.ndarray:
        """Read what `_stream` wrote. [K]"""
        least, count = self.unpack(STREAM)
        if not 1 <= count <= PLANES:
            raise ValueError("damaged: a number has too many bytes")
        whole = np.full(self.k, least, np.int64)
        for plane in range(count):
            whole += self._plane(self.take(*self.unpack(LENGTH))).astype(np.int64) << 8 * plane
        return whole

    def _plane(self, coded: bytes) -> np.ndarray:
        """Decompress one byte for each Gaussian, and never more than that."""
        decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=FILTERS)
        try:
            octets = decoder.decompress(coded, self.k)
        except (lzma.LZMAError, EOFError) as error:
            raise ValueError(f"damaged: {one_line(error)}") from error
        if len(octets) != self.k:
            raise ValueError("damaged: a plane of bytes is too short")
        return np.frombuffer(octets, np.uint8)
