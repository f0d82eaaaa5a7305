"""Pictures of other makers as images of ours and back.

An image in memory is float32 [H, W, C] in [0, 1]. One of 2 or 4 channels has its opacity in the
last, and the others are multiplied by it: so it blends, blurs and is measured like any other.
Files, PIL images and arrays of integers hold colour as it is; they are converted.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from taichi2dgs.settings import MAX_CHANNELS
from taichi2dgs.storage import decoding
from taichi2dgs.storage.decoding import FORMATS, Decoded
from taichi2dgs.storage.maps import Stack, displayed
from taichi2dgs.storage.paths import contents, named, one_line
from taichi2dgs.storage.raw import MAX_PIXELS, RefusedError
from taichi2dgs.storage.stored import OVER, has_alpha, scaled, stack_of
from taichi2dgs.tensors import is_dense

SAMPLES = ("astronaut",)
READ = tuple(FORMATS)
MAX_BYTES = 16 * MAX_PIXELS  # bytes of a file: 32 bits in four channels, uncompressed
ENDINGS = {ending: kind for kind, names in FORMATS.items() for ending in names}
OUT = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "EXR")
WRITTEN = {ending: kind for ending, kind in ENDINGS.items() if kind in OUT}
TRANSPARENT = ("PNG", "WEBP", "TIFF")  # the others get a white ground
SAVING: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
}


def has_ending(path: Path) -> bool:
    """Whether a path is a picture's by its ending."""
    return path.suffix.lower() in ENDINGS


def is_picture(path: Path) -> bool:
    """Whether a path is a picture's by its name, and a file that is not hidden."""
    return has_ending(path) and not path.name.startswith(".") and path.is_file()


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """Read a picture file, or "sample:astronaut" from the package scikit-image.

    Colours become sRGB, as an ICC profile or PNG's and AVIF's own chunks say, at the depth that
    they have. Of linear light, which floats of colour are, what is brighter than white is cut;
    `taichi2dgs.read_stack` keeps it. Orientation by EXIF is applied, palettes and CMYK become RGB,
    and of an animation the first picture is read.

    Args:
        path: of a file, a pipe or a device; "-" is the standard input.

    Returns:
        float32 in [0, 1]; 1 channel if grey, 3 if RGB, one more with transparency, by which
        the others are then multiplied. [H, W, C]

    Raises:
        ValueError: the file cannot be read as one picture, needs a package that is not there, or
            has more than 2^26 pixels; the message names it.

    >>> read_image("sample:astronaut").shape
    torch.Size([512, 512, 3])
    """
    stack = read_picture(path)
    return displayed(stack.image, stack.maps)


def read_picture(path: Any, name: str = "", is_data: bool = False) -> Stack:
    """Read a picture file at its depth and in its range, as Gaussians are fitted to it.

    Args:
        path: see `read_image`.
        name: of the map that it is.
        is_data: whether its numbers are no colours: nothing is converted, or multiplied by opacity.

    Raises:
        ValueError: see `read_image`.
    """
    file = named(path)
    if file.startswith("sample:"):
        return stack_of(Decoded(_sample(file.removeprefix("sample:"))), file, name, is_data)
    return decoded_picture(contents(file, MAX_BYTES), file, name, is_data)


def decoded_picture(data: bytes, file: str, name: str = "", is_data: bool = False) -> Stack:
    """Decode the bytes of a picture file; see `read_picture`.

    Args:
        data: all of them.
        file: what messages call it.
        name: of the map that it is.
        is_data: whether its numbers are no colours.
    """
    try:
        found = decoding.decoded(data, file, is_data)
    except RefusedError as error:
        raise ValueError(f"{file}: {error}") from error
    except Exception as error:  # decoders raise anything from OSError to SyntaxError
        raise ValueError(f"{file}: not a readable picture ({one_line(error)})") from error
    return stack_of(found, file, name, is_data)


def as_image(image: Any) -> Tensor:
    """Return a picture of any common kind as an image.

    Args:
        image: a path or "sample:astronaut"; a stack, of which it is the stored values; a PIL image;
            a NumPy array or torch tensor, [H, W] or [H, W, C], of 8 or 16 bit unsigned integers,
            booleans, or floats in [0, 1], which rounding may have left by 0.001. Floats of 2 or 4
            channels are taken as multiplied by their opacity, as images are.

    Returns:
        float32 in [0, 1]; a tensor stays on its device. [H, W, C]

    Raises:
        ValueError: it is none of these; the message says what came.
    """
    if isinstance(image, Stack):
        return image.image
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    whole = values(image)
    low, high = float(whole.min()), float(whole.max())
    if not -OVER <= low <= high <= 1 + OVER:
        raise ValueError(f"image has floats from {low:.9g} to {high:.9g}; expected [0, 1]")
    return whole if 0 <= low <= high <= 1 else whole.clamp(0, 1)


def values(image: Any) -> Tensor:
    """Return the values of a PIL image, array or tensor; floats may be anything but NaN.

    Returns:
        float32, on the device of a tensor. [H, W, C]

    Raises:
        ValueError: it is none of these; the message says what came.
    """
    if isinstance(image, Image.Image):
        try:
            space = image.info.get("icc_profile")
            return scaled(decoding.pixels_of(image, space, "image"), "image")
        except RefusedError as error:
            raise ValueError(f"image has {error}") from error
        except Exception as error:  # PIL images may be decoded only now, and raise anything
            raise ValueError(f"image cannot be decoded ({one_line(error)})") from error
    if not isinstance(image, Tensor | np.ndarray):
        raise ValueError(
            f"image is a {type(image).__name__}; expected a path, PIL image, array or tensor"
        )
    if isinstance(image, Tensor):
        _check_dense(image)
        if not image.is_floating_point():
            return scaled(image.cpu().numpy(), "image").to(image.device)
    elif image.dtype.kind != "f":
        return scaled(image, "image")
    shape = list(image.shape)
    if isinstance(image, np.ndarray):
        with np.errstate(over="ignore"):  # infinity is refused below
            image = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
    whole = image.detach().float()
    whole = whole[..., None] if len(shape) == 2 else whole
    if len(shape) not in (2, 3) or 0 in shape or whole.shape[2] > MAX_CHANNELS:
        raise ValueError(
            f"image has shape {shape}; "
            f"expected [H, W] or [H, W, C], not [C, H, W], with up to {MAX_CHANNELS} channels"
        )
    if not bool(torch.isfinite(whole).all()):
        raise ValueError("image has values that are not finite; expected [0, 1]")
    return whole


def _check_dense(image: Tensor) -> None:
    """Raise ValueError unless a tensor holds real numbers side by side."""
    if image.is_complex() or not is_dense(image):
        raise ValueError(
            f"image is a tensor of {image.dtype}, {image.layout}, on {image.device}; "
            "expected a dense one of real numbers"
        )


def format_of(path: str | os.PathLike[str]) -> str:
    """Return the format that a file's ending names, or raise ValueError naming the file."""
    name = named(path)
    suffix = Path(name).suffix
    if suffix.lower() not in WRITTEN:
        raise ValueError(
            f"{name}: pictures cannot be written as {suffix or 'a file without an ending'}; "
            f"expected {', '.join(WRITTEN)}"
        )
    return WRITTEN[suffix.lower()]


def encoded(
    image: Tensor, kind: str, has_opacity: bool = True
) -> tuple[Image.Image, dict[str, Any]]:
    """Return an image, clamped and rounded to 8 bits, as what Pillow saves, and how it does.

    Args:
        image: values in [0, 1], 1 to 4 channels. [H, W, C]
        kind: a format. One without transparency shows the image on white.
        has_opacity: whether the last of 2 or 4 channels is the opacity.
    """
    pixels = levels(image, kind, 8, has_opacity)
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), SAVING.get(kind, {})


def levels(image: Tensor, kind: str, bits: int = 8, has_opacity: bool = True) -> np.ndarray:
    """Return an image as the unsigned integers of a file, clamped and rounded.

    Args:
        image: values in [0, 1], 1 to 4 channels. [H, W, C]
        kind: a format; see `encoded`.
        bits: 8 or 16.
        has_opacity: whether the last of 2 or 4 channels is the opacity.
    """
    peak = (1 << bits) - 1
    whole = image.detach().cpu().float().clamp(0, 1)
    if has_opacity and has_alpha(whole):
        color, alpha = whole[..., :-1], whole[..., -1:]
        if kind in TRANSPARENT:
            seen = (alpha * peak).round() > 0
            color = torch.where(seen, color / alpha.clamp(min=1e-3), 0.0).clamp(max=1)
            whole = torch.cat([color, alpha], dim=2)
        else:
            whole = (color + (1 - alpha)).clamp(max=1)
    return (whole * peak).round().numpy().astype(np.uint8 if bits == 8 else np.uint16)


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
