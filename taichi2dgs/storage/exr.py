"""EXR files: linear light in floats, by the package OpenEXR."""

from __future__ import annotations

import io

import numpy as np

from taichi2dgs.storage.raw import Raw, RefusedError, check_pixels, package

MARK = b"v/1\x01"
PACKAGE, EXTRA = "OpenEXR", "exr"
COLOR, GREY, OPACITY = ("R", "G", "B"), "Y", "A"


def read(data: bytes) -> Raw:
    """Read the first part of a file: its channels R, G and B, or Y, or the only one; and A.

    Raises:
        RefusedError: OpenEXR is not there, or the picture has too many pixels or other channels.
        Exception: it is damaged.
    """
    openexr = package(PACKAGE, EXTRA, "an EXR picture")
    header = openexr.File(io.BytesIO(data), header_only=True).header()
    (left, top), (right, bottom) = (corner.tolist() for corner in header["dataWindow"])
    check_pixels(bottom - top + 1, right - left + 1)
    channels = openexr.File(io.BytesIO(data), separate_channels=True).channels()
    found = {name: channel.pixels for name, channel in channels.items()}
    opacity = found.pop(OPACITY, None) if len(found) > 1 else None
    if set(COLOR) <= set(found):
        pixels = np.stack([found[name] for name in COLOR], axis=-1)
    elif GREY in found or len(found) == 1:
        pixels = found.get(GREY, next(iter(found.values())))
    else:
        names = ", ".join(sorted(found)[:9])
        raise RefusedError(f"channels {names}; expected R, G and B, or Y, or one")
    if pixels.dtype.kind != "f":
        raise RefusedError(f"pixels of type {pixels.dtype}; expected floats")
    is_light = pixels.ndim == 3 or GREY in found
    return Raw(pixels, opacity, is_light=is_light, is_multiplied=True)


def write(path: str, pixels: np.ndarray) -> None:
    """Write a file, losslessly compressed.

    Args:
        path: of the file.
        pixels: floats of 16 or 32 bits; of 2 or 4 channels the last is the opacity, by which the
            others are multiplied. [H, W, C]

    Raises:
        ValueError: OpenEXR is not there.
    """
    try:
        openexr = package(PACKAGE, EXTRA, "EXR pictures")
    except RefusedError as error:
        raise ValueError(str(error)) from None
    names = {1: (GREY,), 2: (GREY, OPACITY), 3: COLOR, 4: (*COLOR, OPACITY)}[pixels.shape[2]]
    planes = {name: np.ascontiguousarray(pixels[..., c]) for c, name in enumerate(names)}
    header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
    openexr.File(header, planes).write(path)
