"""Bytes of a picture file, and PIL images, to pixels: depth, transparency, colours, orientation."""

from __future__ import annotations

import io
import logging
import struct
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image

from taichi2dgs.storage import color, exr, heic, jpeg, png, tiff
from taichi2dgs.storage.paths import one_line
from taichi2dgs.storage.raw import Raw, RefusedError, check_pixels

FORMATS = {  # formats that are read, and their endings; none of them runs other programs
    "PNG": (".png", ".apng"), "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"), "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"), "BMP": (".bmp",), "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"), "AVIF": (".avif",),
    "HEIC": (".heic", ".heif", ".hif"), "EXR": (".exr",),  # by packages of extras
}  # fmt: skip
ORIENTATION, DEPTH, PHOTOMETRIC = 0x0112, 258, 262  # tags of TIFF, the first of EXIF too
MIN_IS_WHITE = 0

log = logging.getLogger("taichi2dgs")


class Decoded(NamedTuple):
    """The pixels of a picture file.

    Args:
        pixels: unsigned integers, booleans or floats, upright, with the opacity in the last
            channel if there is any. [H, W] or [H, W, C]
        is_light: whether floats are linear light, and not plain numbers.
        is_multiplied: whether colours are multiplied by the opacity.
    """

    pixels: np.ndarray
    is_light: bool = False
    is_multiplied: bool = False


def decoded(data: bytes, name: str, is_data: bool = False) -> Decoded:
    """Return the pixels of a picture file, in sRGB where they are integers; see `pixels_of`.

    Args:
        data: the whole file.
        name: of the file, for warnings.
        is_data: whether its numbers are no colours: its colour profile does not count.

    Raises:
        RefusedError: it is not of a kind that is read.
        Exception: it is damaged; decoders raise anything from OSError to SyntaxError.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, of large pictures and odd metadata
        if data.startswith(png.SIGNATURE):
            return _of_png(png.Png(data), name, is_data)
        raw = _of_packages(data, name)
        if raw is not None:
            pixels = _assembled(raw.pixels, raw.opacity, None if is_data else raw.space, name)
            return Decoded(_turned(pixels, raw.orientation), raw.is_light, raw.is_multiplied)
        picture = _loaded(data)
        space = picture.info.get("icc_profile")
        if space is None and picture.format == "AVIF":
            space = _space(lambda: _of_nclx(data), name)
        return Decoded(pixels_of(picture, None if is_data else space, name))


def _of_packages(data: bytes, name: str) -> Raw | None:
    """Return what other packages than Pillow read, None if the file is for Pillow."""
    if data.startswith(tiff.MARKS):
        return tiff.read(data, name)
    if data.startswith(exr.MARK):
        return exr.read(data)
    if not heic.is_heic(data):
        return None
    raw, codes = heic.read(data)
    if raw.space is None and codes is not None:
        raw = raw._replace(space=_space(lambda: color.of_codes(*codes), name))
    return raw


def pixels_of(picture: Image.Image, space: bytes | None, name: str) -> np.ndarray:
    """Bring a PIL image to grey or sRGB, upright, with opacity in the last channel if it has any.

    Args:
        picture: of any mode.
        space: the ICC profile of its colours, if any. A damaged one is ignored, with a warning.
        name: of the picture, for warnings.

    Returns:
        Unsigned integers or booleans. [H, W] or [H, W, C]
    """
    picture.load()  # a TIFF file is turned by that
    turn = _orientation(picture)
    if picture.mode.startswith("I"):
        pixels = _sixteen_bits(picture)
        key = picture.info.get("transparency")
        opacity = None if key is None else np.where(pixels == key, 0, 65535).astype(np.uint16)
    else:
        pixels, opacity = _eight_bits(picture)
    return _turned(_assembled(pixels, opacity, space, name), turn)


def _of_png(parts: png.Png, name: str, is_data: bool) -> Decoded:
    """Return the pixels of a PNG file, where Pillow alone would lose its transparency or depth."""
    picture, space = _loaded(parts.plain), None if is_data else _space(parts.space, name)
    if parts.depth == 16 and parts.colors != png.GREY:
        pixels, opacity = parts.deep(picture)
        is_hdr = space is not None and pixels.ndim == 3 and parts.codes()[1] in color.HDR
        if is_hdr:
            pixels = color.hdr_light(pixels, *parts.codes())
            opacity = None if opacity is None else opacity.astype(np.float32) / 65535
        pixels = _assembled(pixels, opacity, None if is_hdr else space, name)
        return Decoded(_turned(pixels, _orientation(picture)), is_light=is_hdr)
    if parts.colors == png.GREY and parts.depth in (2, 4) and "transparency" in picture.info:
        picture.info["transparency"] *= 255 // ((1 << parts.depth) - 1)
    return Decoded(pixels_of(picture, space, name))


def _loaded(data: bytes) -> Image.Image:
    picture = _opened(data)
    try:
        picture.load()
    except OSError:
        mended = jpeg.without_end(data, _opened) if data.startswith(jpeg.START) else None
        if mended is None:
            raise
        return mended
    return picture


def _opened(data: bytes) -> Image.Image:
    """Open a picture file, and refuse it before anything is decoded if it has too many pixels."""
    Image.init()
    known = [kind for kind in FORMATS if kind in Image.OPEN]
    picture = Image.open(io.BytesIO(data), formats=known)
    check_pixels(picture.height, picture.width)
    return picture


def _of_nclx(data: bytes) -> bytes | None:
    """Return the profile of an AVIF file that names its colours by numbers."""
    at = data.find(b"colrnclx", 0, 1 << 16)
    return None if at < 0 else color.of_codes(*struct.unpack_from(">HH", data, at + 8))


def _space(find, name: str) -> bytes | None:
    """Return what `find` does, or None, with a warning, if that is damaged."""
    try:
        return find()
    except Exception as error:  # profiles may be cut off, badly compressed, or of unknown numbers
        _warn(name, error)
        return None


def _warn(name: str, error: Exception) -> None:
    log.warning("%s: its colour profile is ignored (%s)", name, one_line(error))


def _sixteen_bits(picture: Image.Image) -> np.ndarray:
    """Return grey pixels of 16 bits. [H, W]"""
    pixels = np.asarray(picture)
    tags = getattr(picture, "tag_v2", {})
    depth = tags.get(DEPTH, (16,))[0]
    is_wide = picture.mode == "I" and picture.format not in ("PNG", "PPM")  # those have 16 bits
    if is_wide or depth not in (12, 16):
        raise RefusedError("pixels of 32 bits or with a sign; expected 8 or 16 bits a channel")
    pixels = pixels.astype(np.uint16)
    if depth == 12:
        pixels = pixels << 4 | pixels >> 8
    is_inverted = tags.get(PHOTOMETRIC) == MIN_IS_WHITE
    return ~pixels if is_inverted else pixels


def _eight_bits(picture: Image.Image) -> tuple[Image.Image, np.ndarray | None]:
    """Return a picture as one of mode 1, L, RGB or CMYK, and its opacity. [H, W]"""
    mode = picture.mode
    if mode == "F":
        raise RefusedError("pixels of mode F, 32 bits; expected 8 or 16 bits a channel")
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        wanted = "LA" if mode in ("1", "L", "LA", "La") else "RGBA"
        picture = picture if mode == wanted else picture.convert(wanted)
        return picture.convert(wanted[:-1]), np.asarray(picture.getchannel("A"))
    known = mode in ("1", "L", "RGB", "CMYK")
    return picture if known else picture.convert("RGB"), None


def _assembled(
    pixels: np.ndarray | Image.Image, opacity: np.ndarray | None, space: bytes | None, name: str
) -> np.ndarray:
    """Bring colours to sRGB, and put the opacity behind them. [H, W] or [H, W, C]"""
    mode = pixels.mode if isinstance(pixels, Image.Image) else ""
    if space and mode != "1":
        try:
            if isinstance(pixels, Image.Image) and mode != "L":
                pixels = color.converted(pixels, space)
            elif isinstance(pixels, np.ndarray) and pixels.ndim == 3:
                pixels = color.colors_converted(pixels, space)
            else:
                pixels = color.grey_converted(np.asarray(pixels), space)
        except Exception as error:  # a damaged profile may raise anything
            _warn(name, error)
    if isinstance(pixels, Image.Image) and pixels.mode == "CMYK":
        pixels = pixels.convert("RGB")
    array = np.asarray(pixels)
    return array if opacity is None else np.dstack([array, opacity])


def _orientation(picture: Image.Image) -> int:
    """Return how a picture is to be turned, as EXIF numbers it, though other tags be damaged."""
    try:
        found = picture.getexif().get(ORIENTATION)
    except Exception:  # damaged tags may raise anything
        found = None
    if not isinstance(found, int):
        try:
            found = _tagged(picture.info.get("exif") or b"")
        except struct.error:
            found = None
    return found if found is not None and 1 <= found <= 8 else 1


def _tagged(exif: bytes) -> int | None:
    """Return the orientation in the first directory of EXIF data."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2], "<")
    start = struct.unpack_from(order + "I", exif, 4)[0]
    for entry in range(struct.unpack_from(order + "H", exif, start)[0]):
        tag, kind = struct.unpack_from(order + "HH", exif, start + 2 + 12 * entry)
        if tag == ORIENTATION and kind in (1, 3, 4):
            return struct.unpack_from(order + " BxHI"[kind], exif, start + 10 + 12 * entry)[0]
    return None


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror pixels by an EXIF orientation. [H, W] or [H, W, C]"""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels[::-1] if orientation in (3, 4, 7, 8) else pixels
