"""Pictures of other makers as images of ours and back: channels, depth, orientation, transparency.

An image in memory is float32 [H, W, C] in [0, 1]. One of 2 or 4 channels has its opacity in the
last, and the others are multiplied by it: so it blends, blurs and is measured like any other.
Files, PIL images and arrays of integers hold colour as it is; they are converted.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from taichi2dgs.gaussians import MAX_CHANNELS

SAMPLES = ("astronaut",)
MAX_PIXELS = 1 << 26  # 8192 x 8192, twice 8K; checked before anything is decoded
MAX_BYTES = 8 * MAX_PIXELS  # of a file: 16 bits in four channels, uncompressed
READ = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF")  # none runs other programs
WRITTEN = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF",
    ".tiff": "TIFF", ".bmp": "BMP",
}  # fmt: skip
TRANSPARENT = ("PNG", "WEBP", "TIFF")  # the others get a white ground
SAVING: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
}


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """Read a picture file, or "sample:astronaut" from the package scikit-image.

    Grey of 16 bits keeps them; colour of 16 bits is read as 8. Orientation by EXIF is applied,
    palettes and CMYK become RGB, and of an animation the first picture is read.

    Returns:
        float32 in [0, 1]; 1 channel if grey, 3 if RGB, one more with transparency, by which
        the others are then multiplied. [H, W, C]

    Raises:
        ValueError: the file cannot be read as one picture, or has more than 2^26 pixels; the
            message names it.
    """
    name = os.fspath(path)
    if name.startswith("sample:"):
        return _as_image(_sample(name.removeprefix("sample:")), name)
    if not Path(name).is_file():
        raise ValueError(f"{name}: no such file")
    try:
        pixels = _decoded(name)
    except _RefusedError as error:
        raise ValueError(f"{name}: {error}") from error
    except Exception as error:  # decoders raise anything from OSError to SyntaxError
        raise ValueError(f"{name}: not a readable picture ({one_line(error)})") from error
    return _as_image(pixels, name)


def as_image(image: Any) -> Tensor:
    """Return a picture of any common kind as an image.

    Args:
        image: a path or "sample:astronaut"; a PIL image; a NumPy array or torch tensor, [H, W] or
            [H, W, C], of 8 or 16 bit unsigned integers, booleans, or floats in [0, 1]. Floats of 2
            or 4 channels are taken as multiplied by their opacity, as images are.

    Returns:
        float32 in [0, 1]; a tensor stays on its device. [H, W, C]

    Raises:
        ValueError: it is none of these; the message says what came.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    device = image.device if isinstance(image, Tensor) else "cpu"
    if isinstance(image, Tensor):
        pixels = image.detach().cpu().numpy()
    elif isinstance(image, Image.Image):
        try:
            pixels = _pixels(image)
        except _RefusedError as error:
            raise ValueError(f"image has {error}") from error
    elif isinstance(image, np.ndarray):
        pixels = image
    else:
        raise ValueError(
            f"image is a {type(image).__name__}; expected a path, PIL image, array or tensor"
        )
    if pixels.dtype.kind != "f":
        return _as_image(pixels, "image").to(device)
    whole = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32)).to(device)
    whole = whole[..., None] if whole.ndim == 2 else whole
    if whole.ndim != 3 or 0 in whole.shape or whole.shape[2] > MAX_CHANNELS:
        raise ValueError(
            f"image has shape {list(pixels.shape)}; "
            f"expected [H, W] or [H, W, C], not [C, H, W], with up to {MAX_CHANNELS} channels"
        )
    low, high = float(whole.min()), float(whole.max())
    if not 0 <= low <= high <= 1:
        raise ValueError(f"image has floats from {low:g} to {high:g}; expected [0, 1]")
    return whole


def format_of(path: str | os.PathLike[str]) -> str:
    """Return the format that a file's ending names, or raise ValueError naming the file."""
    suffix = Path(path).suffix
    if suffix.lower() not in WRITTEN:
        raise ValueError(
            f"{path}: pictures cannot be written as {suffix or 'a file without an ending'}; "
            f"expected {', '.join(WRITTEN)}"
        )
    return WRITTEN[suffix.lower()]


def encoded(image: Tensor, kind: str) -> tuple[Image.Image, dict[str, Any]]:
    """Return an image, clamped and rounded to 8 bits, as what Pillow saves, and how it does.

    Args:
        image: values in [0, 1], 1 to 4 channels. [H, W, C]
        kind: a format. One without transparency shows the image on white.
    """
    whole = image.detach().cpu().float().clamp(0, 1)
    if has_alpha(whole):
        color, alpha = whole[..., :-1], whole[..., -1:]
        if kind in TRANSPARENT:
            seen = (alpha * 255).round() > 0
            color = torch.where(seen, color / alpha.clamp(min=1e-3), 0.0).clamp(max=1)
            whole = torch.cat([color, alpha], dim=2)
        else:
            whole = (color + (1 - alpha)).clamp(max=1)
    pixels = (whole * 255).round().to(torch.uint8).numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), SAVING.get(kind, {})


def has_alpha(image: Tensor) -> bool:
    """Whether the last channel of an image is its opacity. [H, W, C]"""
    return image.shape[2] in (2, 4)


def one_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    return (str(error) or type(error).__name__).strip().splitlines()[0]


class _RefusedError(Exception):
    """A picture that is whole, but not of a kind that is read."""


def _decoded(name: str) -> np.ndarray:
    if os.path.getsize(name) > MAX_BYTES:
        raise _RefusedError(f"{os.path.getsize(name)} bytes; expected {MAX_BYTES} at most")
    Image.init()
    known = [kind for kind in READ if kind in Image.OPEN]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own warning of large pictures
        with Image.open(name, formats=known) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise _RefusedError(
                    f"{picture.height}x{picture.width} pixels; expected {MAX_PIXELS} at most"
                )
            return _pixels(ImageOps.exif_transpose(picture))


def _pixels(picture: Image.Image) -> np.ndarray:
    """Bring a PIL image to grey, RGB, or one of them with opacity. [H, W] or [H, W, C]"""
    mode = picture.mode
    if mode == "I":  # how some versions of Pillow give 16 bits
        pixels = np.asarray(picture)
        if pixels.min() >= 0 and pixels.max() <= 65535:
            return pixels.astype(np.uint16)
    if mode in ("I", "F"):
        raise _RefusedError(f"pixels of mode {mode}, 32 bits; expected 8 or 16 bits a channel")
    if mode.startswith("I;16"):
        return np.asarray(picture)
    transparent = mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info
    if mode in ("1", "L", "LA", "La"):
        wanted = "LA" if transparent else "L"
    else:
        wanted = "RGBA" if transparent else "RGB"
    return np.asarray(picture if mode == wanted else picture.convert(wanted))


def _as_image(pixels: np.ndarray, name: str) -> Tensor:
    """Bring decoded pixels to float32 [H, W, C] in [0, 1], multiplied by the opacity."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or 0 in pixels.shape or pixels.shape[2] > MAX_CHANNELS:
        raise ValueError(f"{name}: pixels of shape {list(pixels.shape)}; expected one picture")
    if pixels.dtype.kind not in "bu" or pixels.dtype.itemsize > 2:
        raise ValueError(f"{name}: pixels of type {pixels.dtype}; expected 8 or 16 bits")
    peak = 1 if pixels.dtype == np.bool_ else np.iinfo(pixels.dtype).max
    image = torch.from_numpy(pixels.astype(np.float32)).div_(peak)
    if has_alpha(image):
        image[..., :-1] *= image[..., -1:]
    return image


def _sample(name: str) -> np.ndarray:
    if name not in SAMPLES:
        raise ValueError(f"sample:{name}: unknown; expected sample:{' or sample:'.join(SAMPLES)}")
    try:
        from skimage import data
    except ImportError as error:
        raise ValueError(
            f"sample:{name}: needs scikit-image; install the extra, taichi2dgs[demo]"
        ) from error
    return getattr(data, name)()
