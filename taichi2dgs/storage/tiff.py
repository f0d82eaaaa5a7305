"""TIFF files that Pillow cuts down to 8 bits or refuses, by the package tifffile."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import TiffImagePlugin

from taichi2dgs.storage.raw import Raw, RefusedError, check_pixels, package

MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PACKAGE, EXTRA = "tifffile", "tiff"
MULTIPLIED, OPACITY = 1, 2  # kinds of an extra channel
BITS, FORMAT, PROFILE, ORIENTATION = 258, 339, 34675, 274  # tags
FLOATS = 3  # a format of samples

log = logging.getLogger("taichi2dgs")


def read(data: bytes, name: str) -> Raw | None:
    """Read a file of floats, or of 16 bits and several channels; None if it is none of these.

    Without tifffile, or without imagecodecs where that decompresses, colour of 16 bits is left to
    Pillow, with a warning.

    Args:
        data: the whole file.
        name: of the file, for warnings.

    Raises:
        RefusedError: it has too many pixels, or floats, and tifffile is not there.
        Exception: it is damaged.
    """
    try:
        tifffile = package(PACKAGE, EXTRA, "more than 8 bits a channel")
    except RefusedError as error:
        has_floats, is_deep = _kinds(data)
        if has_floats:
            raise
        if is_deep:
            _warn(name, error)
        return None
    with _silenced(), tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        kind, channels = page.dtype, page.samplesperpixel
        color = page.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.MINISBLACK)
        if kind is None or not color or page.imagedepth > 1:
            return None
        if kind.kind != "f" and not (kind == np.uint16 and channels > 1):
            return None
        check_pixels(page.imagelength, page.imagewidth)
        try:
            pixels = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            _warn(name, f"{error}: install the extra, taichi2dgs[{EXTRA}]")
            return None
        if page.axes.startswith("S"):
            pixels = np.moveaxis(pixels, 0, -1)
        tags = {tag: page.tags.valueof(tag) for tag in (PROFILE, ORIENTATION)}
        extra = [int(each) for each in page.extrasamples]
    return _raw(pixels, extra, tags)


def _raw(pixels: np.ndarray, extra: list[int], tags: dict[int, Any]) -> Raw:
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    colors = pixels.shape[2] - len(extra)
    if colors not in (1, 3):
        raise RefusedError(f"pixels of {colors} channels; expected 1 or 3, and opacity")
    has_opacity = bool(extra) and extra[0] in (MULTIPLIED, OPACITY)
    turn = tags[ORIENTATION]
    return Raw(
        pixels[..., 0] if colors == 1 else pixels[..., :3],
        pixels[..., colors] if has_opacity else None,
        bytes(tags[PROFILE]) if tags[PROFILE] and pixels.dtype.kind != "f" else None,
        int(turn) if turn in range(1, 9) else 1,
        is_light=colors == 3 or has_opacity,
        is_multiplied=has_opacity and extra[0] == MULTIPLIED,
    )


def write(path: str, pixels: np.ndarray, is_multiplied: bool) -> None:
    """Write a file, losslessly compressed.

    Args:
        path: of the file.
        pixels: of 16 bits or floats; of 2 or 4 channels the last is the opacity. [H, W, C]
        is_multiplied: whether the others are multiplied by it.

    Raises:
        ValueError: tifffile is not there.
    """
    try:
        tifffile = package(PACKAGE, EXTRA, "TIFF of more than 8 bits")
    except RefusedError as error:
        raise ValueError(str(error)) from None
    channels = pixels.shape[2]
    more = {}
    if channels in (2, 4):
        more["extrasamples"] = ["assocalpha" if is_multiplied else "unassalpha"]
    if channels > 1:
        more["planarconfig"] = "contig"
    tifffile.imwrite(
        path,
        pixels[..., 0] if channels == 1 else pixels,
        photometric="rgb" if channels > 2 else "minisblack",
        compression="zlib",
        predictor=pixels.dtype.kind != "f",
        metadata=None,
        **more,
    )


def _kinds(data: bytes) -> tuple[bool, bool]:
    """Return whether a file has floats, and whether it has colour of more than 8 bits."""
    big = 43 in data[2:4]
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if big else 8])
        stream = io.BytesIO(data)
        stream.seek(tags.next)
        tags.load(stream)
        bits = tags.get(BITS, (1,))
        return FLOATS in tags.get(FORMAT, ()), len(bits) > 1 and max(bits) > 8
    except Exception:  # damaged tags may raise anything
        return False, False


def _warn(name: str, reason: object) -> None:
    log.warning("%s: read at 8 bits a channel (%s)", name, reason)


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keep tifffile from writing what it finds odd in a file to the standard error."""
    logger = logging.getLogger(PACKAGE)
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before
