"""Writing pictures, and any file, completely or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from taichi2dgs.pictures import as_image, encoded, format_of, one_line, read_image

__all__ = [
    "as_image", "check_writable", "one_line", "read_image", "replacing", "write_image",
]  # fmt: skip


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
