"""Reading and writing pictures; files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch
from torch import Tensor

SAMPLES = ("astronaut",)


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """Read a picture file, or "sample:astronaut" from the package scikit-image.

    Returns:
        float32 in [0, 1]; 1 channel if grey, 3 if RGB, one more with transparency. [H, W, C]

    Raises:
        ValueError: the file cannot be read as one picture; the message names it.
    """
    name = os.fspath(path)
    if name.startswith("sample:"):
        return _as_image(_sample(name.removeprefix("sample:")), name)
    if not Path(name).is_file():
        raise ValueError(f"{name}: no such file")
    try:
        pixels = iio.imread(name, plugin="pillow", index=0, rotate=True)
    except Exception as error:  # decoders raise anything from OSError to SyntaxError
        raise ValueError(f"{name}: not a readable picture ({one_line(error)})") from error
    return _as_image(pixels, name)


def as_image(image: Any) -> Tensor:
    """Return a picture of any common kind as an image.

    Args:
        image: a path or "sample:astronaut"; a PIL image; a NumPy array or torch tensor, [H, W] or
            [H, W, C], of 8 or 16 bit unsigned integers, booleans, or floats in [0, 1].

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
    elif hasattr(image, "getbands"):  # PIL
        keeps = image.mode in ("1", "L", "LA", "RGB", "RGBA", "I;16")
        pixels = np.asarray(image if keeps else image.convert("RGB"))
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
    if whole.ndim != 3 or 0 in whole.shape:
        raise ValueError(f"image has shape {list(pixels.shape)}; expected [H, W] or [H, W, C]")
    low, high = float(whole.min()), float(whole.max())
    if not 0 <= low <= high <= 1:
        raise ValueError(f"image has floats from {low:g} to {high:g}; expected [0, 1]")
    return whole


def write_image(path: str | os.PathLike[str], image: Tensor) -> None:
    """Write an image, clamped and rounded to 8 bits; the file appears complete or not at all.

    Args:
        path: its ending names the format, such as .png.
        image: values in [0, 1], 1 to 4 channels. [H, W, C]

    Raises:
        ValueError: the format cannot hold the image, or the file cannot be written.
    """
    if image.ndim != 3 or not 1 <= image.shape[2] <= 4:
        raise ValueError(f"image has shape {list(image.shape)}; expected [H, W, 1 to 4]")
    pixels = (image.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    target = Path(path)
    try:
        with replacing(target) as temporary:
            iio.imwrite(temporary, pixels[..., 0] if pixels.shape[2] == 1 else pixels,
                        plugin="pillow", extension=target.suffix or ".png")  # fmt: skip
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{target}: cannot be written ({one_line(error)})") from error


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise ValueError, naming the file, if it could not be written; leaves nothing behind."""
    try:
        with contextlib.suppress(_DiscardError), replacing(Path(path)):
            raise _DiscardError
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({one_line(error)})") from error


class _DiscardError(Exception):
    """Ends a replacement without replacing."""


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[str]:
    """Give a temporary file beside the target that takes its place on success."""
    if target.is_dir():
        raise IsADirectoryError(f"is a directory: {target}")
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=target.suffix)
    os.close(descriptor)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp's own mode is for the owner only
        os.replace(temporary, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _as_image(pixels: np.ndarray, name: str) -> Tensor:
    """Bring decoded pixels to float32 [H, W, C] in [0, 1]."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise ValueError(f"{name}: pixels of shape {list(pixels.shape)}; expected one picture")
    if pixels.dtype == np.bool_:
        return torch.from_numpy(pixels.astype(np.float32))
    if pixels.dtype.kind != "u":
        raise ValueError(f"{name}: pixels of type {pixels.dtype}; expected 8 or 16 bits")
    return torch.from_numpy(pixels.astype(np.float32) / np.iinfo(pixels.dtype).max)


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


def one_line(error: Exception) -> str:
    """Return what an error says, or its name, as one line."""
    return (str(error) or type(error).__name__).strip().splitlines()[0]
