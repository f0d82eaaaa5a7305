"""Colours of other spaces to sRGB, by ICC profiles."""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from taichi2dgs.storage.curves import PQ_PEAK, from_hlg, from_pq, from_srgb, to_srgb

NODES = 4096  # points of a tone curve in a profile that we make
D65, C, DCI = (0.3127, 0.3290), (0.310, 0.316), (0.314, 0.351)
PRIMARIES = {  # white, red, green, blue; numbers of ITU-T H.273
    1: (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06),
    4: (*C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (*DCI, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
UNSPECIFIED = 2
HDR = (16, 18)  # curves: PQ and HLG
ADAPTATION = np.array([  # Bradford's cone responses
    [0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296],
])  # fmt: skip
D50 = np.array([0.9642, 1.0, 0.8249])

RED_GREEN_BLUE = ((b"rTRC", b"gTRC", b"bTRC"), (b"rXYZ", b"gXYZ", b"bXYZ"))  # curves, matrix

Tone = Callable[[np.ndarray], np.ndarray]  # stored values to light, both from 0 to 1


def converted(picture: Image.Image, space: bytes) -> Image.Image:
    """Return a picture of 8 bits in sRGB; a profile that is sRGB's leaves it as it is.

    Args:
        picture: RGB or CMYK.
        space: an ICC profile.

    Raises:
        Exception: the profile is damaged or of other colours, or this Pillow cannot read any.
    """
    transform = _transform(space, picture.mode)
    return picture if transform is None else ImageCms.applyTransform(picture, transform)  # type: ignore[return-value]


@functools.lru_cache(maxsize=4)
def _transform(space: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return a way to sRGB, None if it moves no colour by more than one level of 8 bits."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(space))
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    if mode == "RGB":
        levels = np.linspace(0, 255, 18).astype(np.uint8)
        grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(18, -1, 3)
        seen: Any = ImageCms.applyTransform(Image.fromarray(grid), transform)
        if np.abs(np.asarray(seen).astype(int) - grid).max() <= 1:
            return None
    return transform


def grey_converted(pixels: np.ndarray, space: bytes) -> np.ndarray:
    """Return grey pixels with the tone curve of sRGB, at their depth; see `converted`.

    Args:
        pixels: unsigned integers. [H, W]
        space: an ICC profile of grey, or of colours, where grey is what has equal ones.
    """
    peak = np.iinfo(pixels.dtype).max
    stored = np.arange(peak + 1) / peak
    tags = _tags(space)
    tone = _tone(tags.get(b"kTRC") or tags.get(b"gTRC") or b"")  # of grey, or that of green
    shown = to_srgb(tone(stored).clip(0, 1))
    if np.abs(shown - stored).max() <= 1 / 255:
        return pixels
    return np.rint(shown * peak).astype(pixels.dtype)[pixels]


def colors_converted(pixels: np.ndarray, space: bytes) -> np.ndarray:
    """Return colours in sRGB, at their depth; see `converted`.

    A profile that is a table, and not a matrix and curves, is applied at 8 bits.

    Args:
        pixels: unsigned integers of 8 or 16 bits. [H, W, 3]
        space: an ICC profile.
    """
    if pixels.dtype == np.uint8:
        return np.asarray(converted(Image.fromarray(pixels), space))
    if _transform(space, "RGB") is None:
        return pixels
    tags = _tags(space)
    if b"A2B0" in tags or not {name for names in RED_GREEN_BLUE for name in names} <= set(tags):
        coarse = converted(Image.fromarray((pixels >> 8).astype(np.uint8)), space)
        return np.asarray(coarse).astype(np.uint16) * 257
    stored = np.arange(65536) / 65535
    curves = [_tone(tags[name])(stored) for name in RED_GREEN_BLUE[0]]
    primaries = [np.frombuffer(tags[name], ">i4", 3, 8) / 65536 for name in RED_GREEN_BLUE[1]]
    out = np.empty_like(pixels)
    for row, light in enumerate(_lines(pixels, curves, np.stack(primaries, axis=1))):
        out[row] = np.rint(to_srgb(light.clip(0, 1)) * 65535)
    return out


def hdr_light(pixels: np.ndarray, primaries: int, transfer: int) -> np.ndarray:
    """Return the light of HDR colours, with sRGB's primaries and white at 1; see `of_codes`.

    Args:
        pixels: uint16. [H, W, 3]

    Returns:
        float32, 0 or more. [H, W, 3]
    """
    chromaticities, tone = _named(primaries, transfer)
    out = np.empty(pixels.shape, np.float32)
    curve = tone(np.arange(65536) / 65535)
    for row, light in enumerate(_lines(pixels, [curve] * 3, _adapted(chromaticities))):
        out[row] = light.clip(0)
    return out


def _lines(pixels: np.ndarray, curves: list[np.ndarray], primaries: np.ndarray) -> Iterator:
    """Yield the light of row after row, with sRGB's primaries: floats of all would take much.

    Args:
        pixels: uint16. [H, W, 3]
        curves: the light of every value, of red, green and blue. 3 x [65536]
        primaries: see `_adapted`. [3, 3]
    """
    mixing = np.linalg.solve(_adapted(np.array(PRIMARIES[1])), primaries).T
    for line in pixels:
        yield np.stack([curve[line[:, c]] for c, curve in enumerate(curves)], axis=-1) @ mixing


def _tags(space: bytes) -> dict[bytes, bytes]:
    """Return what an ICC profile holds, by name."""
    if len(space) < 132 or space[36:40] != b"acsp":
        raise ValueError("it is no profile")
    tags = {}
    for at in range(132, 132 + 12 * min(struct.unpack_from(">I", space, 128)[0], 1000), 12):
        name, start, length = struct.unpack_from(">4sII", space, at)
        tags[name] = space[start : start + length]
    return tags


def _tone(found: bytes) -> Tone:
    """Return the tone curve of an ICC profile's tag."""
    if found[:4] == b"curv":
        count = struct.unpack_from(">I", found, 8)[0]
        table = np.frombuffer(found, ">u2", count, 12)
        if count == 1:
            return lambda v: v ** (table[0] / 256)
        places = np.linspace(0, 1, count)
        return lambda v: np.interp(v, places, table / 65535) if count else v
    if found[:4] == b"para":
        kind = struct.unpack_from(">H", found, 8)[0]
        count = (1, 3, 4, 5, 7)[kind] if kind < 5 else 0
        if count:
            return _parametric(kind, np.frombuffer(found, ">i4", count, 12) / 65536)
    raise ValueError("it has no tone curve")


def _parametric(kind: int, numbers: np.ndarray) -> Tone:
    """Return a curve of the ICC's type "para": a power above a bend, a line below."""
    g, a, b, c, d, e, f = [*numbers, *[0.0] * (7 - len(numbers))]
    if kind == 0:
        return lambda v: v**g
    if kind in (1, 2):  # a constant below, which type 2 also adds above
        bend, c, e, f = -b / a, 0.0, c, c
    else:
        bend = d
    return lambda v: np.where(v >= bend, (a * v + b).clip(0) ** g + e, c * v + f)


def of_codes(primaries: int, transfer: int) -> bytes | None:
    """Return the ICC profile of what PNG's cICP and AVIF's nclx name, None if it is sRGB.

    Curves of SDR television are shown as sRGB's, as browsers do. Of HDR (PQ, and HLG on a screen of
    1000 cd/m^2) what is brighter than 203 cd/m^2 is cut.

    Raises:
        ValueError: the numbers are of no space that we know.
    """
    chromaticities, tone = _named(primaries, transfer)
    if primaries in (1, UNSPECIFIED) and tone is from_srgb:
        return None
    return profile(chromaticities, tone)


def _named(primaries: int, transfer: int) -> tuple[np.ndarray, Tone]:
    """Return the chromaticities and the curve of two numbers, or raise ValueError."""
    if primaries == UNSPECIFIED:
        primaries = 1
    tones = dict.fromkeys((1, UNSPECIFIED, 6, 13, 14, 15), from_srgb) | {
        4: lambda v: v**2.2, 5: lambda v: v**2.8, 8: lambda v: v,
        16: lambda v: PQ_PEAK * from_pq(v), 18: from_hlg,
    }  # fmt: skip
    if primaries not in PRIMARIES or transfer not in tones:
        raise ValueError(f"primaries {primaries} and transfer {transfer} are not known")
    return np.array(PRIMARIES[primaries]), tones[transfer]


def profile(chromaticities: np.ndarray, tone: Tone) -> bytes:
    """Return an ICC profile of a space.

    Args:
        chromaticities: x and y of white, red, green and blue. [8]
        tone: stored values to light.

    Raises:
        ValueError: there is no such space.
    """
    adapted = _adapted(chromaticities)
    light = tone(np.linspace(0, 1, NODES)).clip(0, 1)
    curve = struct.pack(">4sxxxxI", b"curv", NODES) + np.rint(light * 65535).astype(">u2").tobytes()
    tags = [(b"wtpt", _xyz(D50)), *zip(RED_GREEN_BLUE[0], [curve] * 3, strict=True)]
    tags += zip(RED_GREEN_BLUE[1], map(_xyz, adapted.T), strict=True)
    return _assembled(tags)


def _adapted(chromaticities: np.ndarray) -> np.ndarray:
    """Return red, green and blue of a space as XYZ under the white of ICC profiles. [3, 3]"""
    x, y = np.asarray(chromaticities, dtype=np.float64).reshape(4, 2).T
    if not (y > 0).all():
        raise ValueError("its chromaticities are impossible")
    white, *primaries = np.stack([x / y, np.ones(4), (1 - x - y) / y], axis=1)
    columns = np.stack(primaries, axis=1)
    try:
        columns = columns * np.linalg.solve(columns, white)
    except np.linalg.LinAlgError:
        raise ValueError("its chromaticities are impossible") from None
    cones = ADAPTATION @ D50 / (ADAPTATION @ white)
    adapted = np.linalg.solve(ADAPTATION, cones[:, None] * ADAPTATION) @ columns
    if not (np.isfinite(adapted).all() and np.abs(adapted).max() < 100):
        raise ValueError("its chromaticities are impossible")
    return adapted


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + np.rint(values * 65536).astype(">i4").tobytes()


def _assembled(tags: list[tuple[bytes, bytes]]) -> bytes:
    """Return an ICC profile, version 2.1, of a screen. Tags have whole words."""
    table, body = struct.pack(">I", len(tags)), b""
    start = 132 + 12 * len(tags)
    for name, data in tags:
        table += struct.pack(">4sII", name, start + len(body), len(data))
        body += data
    head = (
        struct.pack(
            ">I4sI4s4s4s", start + len(body), b"lcms", 0x02100000, b"mntr", b"RGB ", b"XYZ "
        )
        + struct.pack(">6H", 2020, 1, 1, 0, 0, 0)
        + b"acsp"
    )
    white = np.rint(D50 * 65536).astype(">i4").tobytes()
    return head.ljust(68, b"\0")[:68] + white.ljust(60, b"\0") + table + body
