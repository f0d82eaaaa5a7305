"""The .t2d file format: Gaussians as few bytes; docs/FORMAT.md describes it."""

from __future__ import annotations

import math
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from taichi2dgs.checks import number, shown
from taichi2dgs.gaussians import Gaussians, check_gaussians
from taichi2dgs.settings import BLENDS, MAX_CHANNELS, QUALITIES, RenderSettings
from taichi2dgs.storage import body, maps, quantise, streams
from taichi2dgs.storage.paths import contents, named, one_line, writing
from taichi2dgs.storage.quantise import Precision
from taichi2dgs.storage.streams import Reader

MAGIC = b"\x8aT2D\r\n\x1a\n"
PLAIN, PROGRESSIVE, MAPPED = 2, 3, 4  # versions; the last has maps, and then one of the others
MAX_K = 1 << 24
MAX_PIXELS = 1 << 28
MAX_BYTES = 1 << 31  # bytes of a file; the longest that is written has three quarters of them
PER_BYTE = 64  # Gaussians per byte of a file, at most: bounds what a small file makes a reader hold
HEADER = struct.Struct("<8sHBBIIIBBdd")
LAYOUT = struct.Struct("<B")  # of a file with maps: the version of its body


@dataclass(frozen=True)
class Contents:
    """What a .t2d file holds.

    Args:
        gaussians: see `Gaussians`.
        quality: the name of its preset.
        bytes: of the whole file.
        steps: of centres, log-size, stretch and colours of Gaussians of the usual size; empty if
            lossless.
        progressive: whether it has sections, of which the first ones are a coarse picture.
    """

    gaussians: Gaussians
    quality: str
    bytes: int
    steps: list[float]
    progressive: bool = False


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file, complete or not at all.

    Raises:
        WriteError: it cannot be written; the message names it.
    """
    with writing(path) as temporary:
        Path(temporary).write_bytes(data)


def load(path: str | os.PathLike[str], fraction: float = 1.0) -> Gaussians:
    """Read Gaussians that `Gaussians.save` wrote.

    Args:
        path: of a file, a pipe or a device; "-" is the standard input.
        fraction: of a progressive file, the least share of its Gaussians that is wanted: over 0, up
            to 1. They are a quarter, half or all of them, spread evenly, and widened so that they
            cover the picture.

    Raises:
        ValueError: the file is missing, damaged or holds something else, or is not progressive
            where a fraction is wanted; the message names it.

    >>> import taichi2dgs as t2
    >>> t2.encode("sample:astronaut", k=100, steps=0, start="random").save("photo.t2d")
    >>> load("photo.t2d")
    Gaussians(100; 512x512; 3 channels; cpu)
    """
    if not 0 < number(fraction) <= 1:
        raise ValueError(f"fraction={shown(fraction)}; expected over 0 and at most 1")
    found = read(path, number(fraction))
    if number(fraction) < 1 and not found.progressive:
        raise ValueError(
            f"{named(path)}: fraction={shown(fraction)}; expected a file that was saved with "
            "progressive=True"
        )
    return found.gaussians


def read(path: str | os.PathLike[str], fraction: float = 1.0) -> Contents:
    """Read a .t2d file, and say how it was coded; see `load`."""
    data = contents(path, MAX_BYTES)
    try:
        return decode(data, fraction)
    except ValueError as error:
        raise ValueError(f"{named(path)}: not a file of Gaussians ({one_line(error)})") from error


def encode(gaussians: Gaussians, quality: str = "high", progressive: bool = False) -> bytes:
    """Return the content of a .t2d file; see `Gaussians.save`."""
    precision = checked_precision(gaussians, quality, progressive)
    s, params = gaussians.settings, gaussians.packed().detach().cpu().float().numpy()
    if not np.isfinite(params).all():
        bad = int(np.flatnonzero(~np.isfinite(params).all(1))[0])
        raise ValueError(
            f"gaussians has numbers beyond float32 at Gaussian {bad}; a file holds none"
        )
    height, width = gaussians.size
    layout = PROGRESSIVE if progressive else PLAIN
    header = HEADER.pack(
        MAGIC,
        MAPPED if gaussians.maps else layout,
        list(QUALITIES).index(quality),
        gaussians.channels,
        height,
        width,
        len(params),
        s.top_k,
        BLENDS.index(s.blend) + len(BLENDS) * s.tile,
        s.cutoff,
        s.eps,
    )
    if gaussians.maps:
        header += LAYOUT.pack(layout) + maps.packed(gaussians.maps)
    if not len(params):
        content = b""
    elif precision is None:
        content = b"".join(streams.write(column.view(np.uint32)) for column in params.T.copy())
    else:
        content = body.coded(quantise.quantise(params, gaussians.size, precision), progressive)
    content += bytes(max(0, len(params) // PER_BYTE - len(content)))
    return header + content + struct.pack("<I", zlib.crc32(header + content))


def checked_precision(
    gaussians: Gaussians, quality: str, progressive: bool = False
) -> Precision | None:
    """Return the steps of a quality, None for "lossless".

    Raises:
        ValueError: the quality is unknown or cannot be progressive, or the Gaussians are none or do
            not fit in a file.
    """
    check_gaussians(gaussians)
    if not isinstance(quality, str) or quality not in QUALITIES:
        raise ValueError(f"quality={shown(quality)}; expected one of {', '.join(QUALITIES)}")
    check_progressive(progressive, quality)
    height, width = gaussians.size
    if len(gaussians) > MAX_K or height * width > MAX_PIXELS:
        raise ValueError(
            f"{len(gaussians)} Gaussians in {height}x{width} pixels; a file holds at most {MAX_K} "
            f"in {MAX_PIXELS} pixels"
        )
    factor = QUALITIES[quality]
    if factor is None:
        return None
    is_deep = any(one.bits > 8 for one in gaussians.maps)
    return Precision.of(factor, len(gaussians), gaussians.size, is_deep)


def check_progressive(progressive: object, quality: str) -> None:
    """Raise ValueError unless files of a quality can be progressive, if they are to be."""
    if not isinstance(progressive, bool) or (progressive and QUALITIES[quality] is None):
        raise ValueError(
            f"progressive={shown(progressive)}; expected True or False, and False for "
            "quality='lossless', which keeps the order"
        )


def decode(data: bytes, fraction: float = 1.0) -> Contents:
    """Return what the content of a .t2d file holds, or raise ValueError."""
    if len(data) < HEADER.size + 4 or not data.startswith(MAGIC):
        raise ValueError("it does not begin as a .t2d file does")
    _, version, preset, channels, height, width, k, *blending = HEADER.unpack_from(data)
    if version not in (PLAIN, PROGRESSIVE, MAPPED):
        raise ValueError(f"version {version}; this library reads versions 2 to 4")
    if zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise ValueError("damaged or cut off: its checksum is wrong")
    top_k, blend, cutoff, eps = blending
    reader, steps, found = Reader(data[HEADER.size : -4], k), [], ()
    if version == MAPPED:
        (version,) = reader.unpack(LAYOUT)
        found = maps.unpacked(reader, channels)
    if not (
        preset < len(QUALITIES)
        and 1 <= channels <= MAX_CHANNELS
        and blend < 2 * len(BLENDS)
        and 1 <= height * width <= MAX_PIXELS
        and k <= min(MAX_K, PER_BYTE * len(data))
        and version in (PLAIN, PROGRESSIVE)
        and (preset or version == PLAIN)
    ):
        raise ValueError("its header is out of range")
    tile, blend = divmod(blend, len(BLENDS))
    settings = RenderSettings(top_k, cutoff, eps, BLENDS[blend], bool(tile))
    if not k:
        params = np.zeros((0, 5 + channels), np.float32)
    elif preset == 0:
        columns = [reader.stream().astype(np.uint32).view(np.float32) for _ in range(5 + channels)]
        params = np.stack(columns, axis=1)
    else:
        params, steps = _lossy(reader, channels, version == PROGRESSIVE, fraction)
    gaussians = Gaussians.from_packed(torch.from_numpy(params), (height, width), settings, found)
    progressive = version == PROGRESSIVE
    return Contents(gaussians, list(QUALITIES)[preset], len(data), steps, progressive)


def _lossy(
    reader: Reader, channels: int, progressive: bool, fraction: float
) -> tuple[np.ndarray, list[float]]:
    """Return the parameters of a body that is not lossless, and its steps. [N, 5 + C]"""
    cells = body.decoded(reader, channels, progressive, fraction)
    params = cells.params()
    if len(params) < reader.k:  # each stands for those that are left out, too
        params[:, 2:4] += np.float32(math.log(reader.k / len(params)) / 2)
    return params, cells.grid.steps.tolist()
