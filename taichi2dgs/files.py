"""Reading and writing pictures and Gaussians."""

from __future__ import annotations

import contextlib
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from taichi2dgs.gaussians import Gaussians
from taichi2dgs.pictures import as_image, encoded, format_of, one_line, read_image

__all__ = [
    "as_image", "check_writable", "load_npz", "read_image", "replacing", "save_npz", "write_image",
]  # fmt: skip
ARRAYS = ("xy", "log_scale", "theta", "color", "size")
_UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile,
)  # fmt: skip


def write_image(path: str | os.PathLike[str], image: Tensor) -> None:
    """Write an image, clamped and rounded to 8 bits; the file appears complete or not at all.

    Args:
        path: its ending names the format: .png, .jpg, .webp, .tif or .bmp.
        image: values in [0, 1], 1 to 4 channels; of 2 or 4, the last is the opacity, by which the
            others are multiplied. JPEG and BMP have none, and get the image on white. [H, W, C]

    Raises:
        ValueError: the format cannot hold the image, or the file cannot be written.
    """
    if image.ndim != 3 or not 1 <= image.shape[2] <= 4:
        raise ValueError(f"image has shape {list(image.shape)}; expected [H, W, 1 to 4]")
    kind = format_of(path)
    picture, options = encoded(image, kind)
    try:
        with replacing(Path(path)) as temporary:
            picture.save(temporary, kind, **options)
    except (OSError, ValueError, SystemError) as error:
        raise ValueError(f"{path}: cannot be written ({one_line(error)})") from error


def save_npz(path: str | os.PathLike[str], gaussians: Gaussians) -> None:
    """Write Gaussians as a NumPy archive of float32 arrays, complete or not at all.

    Raises:
        ValueError: the file cannot be written; the message names it.
    """
    plain = gaussians.detach().to("cpu", torch.float32)
    arrays = {name: getattr(plain, name).numpy() for name in ARRAYS[:4]}
    try:
        with replacing(Path(path)) as temporary, open(temporary, "wb") as file:
            np.savez(file, size=np.array(plain.size, dtype=np.int64), **arrays)
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({one_line(error)})") from error


def load_npz(path: str | os.PathLike[str]) -> Gaussians:
    """Read Gaussians that `save_npz` wrote.

    Raises:
        ValueError: the file is missing, damaged or holds something else; the message names it.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ARRAYS}
        height, width = (int(extent) for extent in arrays.pop("size"))
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    except _UNREADABLE as error:
        raise ValueError(f"{path}: not a file of Gaussians ({one_line(error)})") from error
    try:
        return Gaussians(**tensors, size=(height, width))
    except ValueError as error:
        raise ValueError(f"{path}: {one_line(error)}") from error


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
