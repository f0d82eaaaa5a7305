"""The .t2d file format: Gaussians as few bytes; docs/FORMAT.md describes it."""

from __future__ import annotations

import lzma
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from taichi2dgs.files import one_line, replacing
from taichi2dgs.gaussians import MAX_CHANNELS, Gaussians
from taichi2dgs.settings import BLENDS, RenderSettings

MAGIC = b"\x8aT2D\r\n\x1a\n"
VERSION = 1
MAX_K = 1 << 24
MAX_PIXELS = 1 << 28
PER_BYTE = (
    64  # Gaussians per byte of a file, at most: bounds what a small file can make us allocate
)
FAR = float(1 << 20)  # pixels outside the picture, to which centres farther away are moved
HEADER = struct.Struct("<8sHBBIIIBBdd")
COLUMN = struct.Struct("<ddB")
LENGTH = struct.Struct("<I")
FILTERS = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 0, "lp": 0, "pb": 0}]


@dataclass(frozen=True)
class Precision:
    """Steps to which attributes are rounded: pixels, log pixels, radians, colour units."""

    xy: float
    log_scale: float
    theta: float
    color: float


QUALITIES: dict[str, Precision | None] = {
    "lossless": None,
    "high": Precision(1 / 8, 1 / 32, np.pi / 64, 1 / 160),
    "medium": Precision(1 / 4, 1 / 12, np.pi / 24, 1 / 64),
    "small": Precision(1 / 2, 1 / 6, np.pi / 12, 1 / 32),
}


def save(path: str | os.PathLike[str], gaussians: Gaussians, quality: str = "high") -> None:
    """Write Gaussians to a .t2d file, complete or not at all; see `Gaussians.save`."""
    data = encode(gaussians, quality)
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
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        return decode(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a file of Gaussians ({one_line(error)})") from error


def encode(gaussians: Gaussians, quality: str = "high") -> bytes:
    """Return the content of a .t2d file."""
    if quality not in QUALITIES:
        raise ValueError(f"quality={quality!r}; expected one of {', '.join(QUALITIES)}")
    height, width = gaussians.size
    if len(gaussians) > MAX_K or height * width > MAX_PIXELS:
        raise ValueError(
            f"{len(gaussians)} Gaussians of {height}x{width} pixels; a file holds at most {MAX_K} "
            f"of {MAX_PIXELS} pixels"
        )
    s, params = gaussians.settings, gaussians.packed().detach().cpu().float().numpy()
    precision = QUALITIES[quality]
    header = HEADER.pack(
        MAGIC, VERSION, list(QUALITIES).index(quality), gaussians.channels, height, width,
        len(params), s.top_k, BLENDS.index(s.blend), s.cutoff, s.eps,
    )  # fmt: skip
    if not len(params):
        body = b""
    elif precision is None:
        body = b"".join(_packed(column.view(np.uint32), 4) for column in params.T.copy())
    else:
        body = _quantised(params, gaussians.size, precision)
    body += bytes(max(0, len(params) // PER_BYTE - len(body)))
    return header + body + struct.pack("<I", zlib.crc32(header + body))


def decode(data: bytes) -> Gaussians:
    """Return the Gaussians in the content of a .t2d file, or raise ValueError."""
    if len(data) < HEADER.size + 4 or data[: len(MAGIC)] != MAGIC:
        raise ValueError("it does not begin as a .t2d file does")
    _, version, quality, channels, height, width, k, top_k, blend, cutoff, eps = HEADER.unpack_from(
        data
    )
    if version != VERSION:
        raise ValueError(f"version {version}; this library reads version {VERSION}")
    if zlib.crc32(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
        raise ValueError("damaged: its checksum is wrong")
    plausible = 1 <= channels <= MAX_CHANNELS and k <= MAX_K and k // PER_BYTE <= len(data)
    plausible &= 0 < height * width <= MAX_PIXELS and blend < len(BLENDS)
    if not plausible or quality >= len(QUALITIES):
        raise ValueError("implausible header")
    settings = RenderSettings(top_k, cutoff, eps, BLENDS[blend])
    reader = _Reader(data[HEADER.size : -4], k)
    if not k:
        params = np.zeros((0, 5 + channels), np.float32)
    elif quality == 0:
        columns = [
            reader.integers(4).astype(np.uint32).view(np.float32) for _ in range(5 + channels)
        ]
        params = np.stack(columns, 1)
    else:
        params = _dequantised(reader, channels)
    return Gaussians.from_packed(torch.from_numpy(params), (height, width), settings)


def _quantised(params: np.ndarray, size: tuple[int, int], precision: Precision) -> bytes:
    params = params.astype(np.float64)
    extent = np.array([size[1], size[0]])
    params[:, :2] = params[:, :2].clip(-FAR, extent + FAR)
    params[:, 4] = np.where(params[:, 2] < params[:, 3], params[:, 4] + np.pi / 2, params[:, 4])
    params[:, 2:4] = -np.sort(-params[:, 2:4], axis=1)
    params[:, 4] %= np.pi
    steps = [precision.xy] * 2 + [precision.log_scale] * 2 + [precision.theta]
    steps += [precision.color] * (params.shape[1] - 5)
    lows, cells = [], []
    for column, step in zip(params.T, steps, strict=True):
        lows.append(column.min())
        cells.append(np.rint((column - lows[-1]) / step).astype(np.int64))
    cells = np.stack(cells, 1)
    code = _interleave(cells[:, 0]) | _interleave(cells[:, 1]) << 1
    cells, code = cells[np.argsort(code, kind="stable")], np.sort(code)
    body = b""
    for j in range(1, len(steps)):
        if j == 1:
            whole = np.diff(code, prepend=0)
        else:
            delta = np.diff(cells[:, j], prepend=0)
            whole = np.where(delta < 0, -2 * delta - 1, 2 * delta)
        count = max(1, (int(whole.max()).bit_length() + 7) // 8)
        body += COLUMN.pack(lows[j], steps[j], count) + _packed(whole, count)
    return COLUMN.pack(lows[0], steps[0], 0) + body


def _dequantised(reader: _Reader, channels: int) -> np.ndarray:
    columns, codes = [], None
    scales = [reader.column()[:2]]
    for j in range(1, 5 + channels):
        low, step, count = reader.column()
        whole = reader.integers(count)
        scales.append((low, step))
        if j == 1:
            codes = np.cumsum(whole)
            columns += [_deinterleave(codes), _deinterleave(codes >> 1)]
        else:
            columns.append(np.cumsum(np.where(whole & 1, -(whole >> 1) - 1, whole >> 1)))
    values = [low + step * cells for (low, step), cells in zip(scales, columns, strict=True)]
    return np.stack(values, 1).astype(np.float32)


def _interleave(cells: np.ndarray) -> np.ndarray:
    code = np.zeros_like(cells)
    for bit in range(31):
        code |= (cells >> bit & 1) << 2 * bit
    return code


def _deinterleave(code: np.ndarray) -> np.ndarray:
    cells = np.zeros_like(code)
    for bit in range(31):
        cells |= (code >> 2 * bit & 1) << bit
    return cells


def _packed(whole: np.ndarray, count: int) -> bytes:
    """Byte planes, each compressed and led by its length."""
    planes = [(whole >> 8 * i & 255).astype(np.uint8).tobytes() for i in range(count)]
    coded = [lzma.compress(plane, lzma.FORMAT_RAW, filters=FILTERS) for plane in planes]
    return b"".join(LENGTH.pack(len(part)) + part for part in coded)


class _Reader:
    def __init__(self, data: bytes, k: int) -> None:
        self.data, self.k, self.at = data, k, 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise ValueError("it ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def column(self) -> tuple[float, float, int]:
        return COLUMN.unpack(self.take(COLUMN.size))

    def integers(self, count: int) -> np.ndarray:
        if count > 8:
            raise ValueError("implausible header")
        whole = np.zeros(self.k, np.int64)
        for i in range(count):
            coded = self.take(*LENGTH.unpack(self.take(LENGTH.size)))
            try:
                decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=FILTERS)
                plane = decoder.decompress(coded, self.k)
            except lzma.LZMAError as error:
                raise ValueError(f"damaged: {error}") from error
            if len(plane) != self.k:
                raise ValueError("damaged: a plane is too short")
            whole |= np.frombuffer(plane, np.uint8).astype(np.int64) << 8 * i
        return whole
