"""Bytes of files, pipes and devices: read within a limit, written completely or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from taichi2dgs.checks import shown

ROOM = 1 << 20  # bytes that must fit where a file is to be written


class WriteError(ValueError):
    """A file cannot be written; the message names it."""


def named(path: Any) -> str:
    """Return a path as a str, or raise ValueError if it is none."""
    try:
        return os.fsdecode(path)
    except TypeError:
        raise ValueError(f"path={shown(path)}; expected the path of a file") from None


def one_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def contents(path: Any, most: int) -> bytes:
    """Return the bytes of a file, pipe or device; "-" is the standard input.

    Args:
        path: of the file.
        most: bytes that it may have.

    Raises:
        ValueError: it is not there, cannot be read or has more bytes; the message names it.
    """
    name = named(path)
    try:
        with open(0 if name == "-" else name, "rb", closefd=name != "-") as stream:
            found = os.fstat(stream.fileno())
            size = found.st_size if stat.S_ISREG(found.st_mode) else 0
            parts: list[bytes] = []
            while size <= most and (part := stream.read(max(1 << 20, size))):
                parts.append(part)
                size = max(found.st_size, sum(map(len, parts)))
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise ValueError(f"{name}: no such file, but a folder") from None
    except (OSError, ValueError) as error:  # a ValueError if no file can have such a name
        raise ValueError(f"{name}: cannot be read ({_reason(error)})") from error
    if size > most:
        raise ValueError(f"{name}: {size} bytes; expected {most} at most")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def is_stream(path: Any) -> bool:
    """Whether a path is the standard input, a pipe or a device: it has no name to derive from."""
    try:
        return named(path) == "-" or not stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def writing(path: Any) -> Iterator[str]:
    """Do what `replacing` does, and raise WriteError where it raises OSError or ValueError."""
    name = named(path)
    try:
        with replacing(Path(name)) as temporary:
            yield temporary
    except (OSError, ValueError) as error:
        raise WriteError(f"{name}: cannot be written ({_reason(error)})") from error


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise WriteError, naming the file, if it could not be written; leaves nothing behind.

    A disk without room for a mebibyte counts as full.
    """
    with contextlib.suppress(_DiscardError), writing(path) as temporary:
        with open(temporary, "wb") as probe:
            probe.write(bytes(ROOM))
        raise _DiscardError


class _DiscardError(Exception):
    """Ends a replacement without replacing."""


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[str]:
    """Give a temporary file that takes the target's place on success.

    Where the target is a link, what it points to is replaced. Mode and owner of a file that was
    there stay. A pipe, a character device or a file that the process has open, such as
    /dev/stdout, is not replaced: the whole content is written into it.

    Raises:
        OSError: the target is a folder or a disk, or cannot be written.
    """
    try:
        there = os.stat(target)
    except FileNotFoundError:
        there = None
    if there is not None and stat.S_ISDIR(there.st_mode):
        raise IsADirectoryError(f"is a directory: {target}")
    if there is not None and stat.S_ISBLK(there.st_mode):
        raise OSError(f"is a block device: {target}")
    into: Path | int | None = None if there is None else _open_file(target)
    if into is None and there is not None and not stat.S_ISREG(there.st_mode):
        into = target
        if not os.access(target, os.W_OK):
            raise PermissionError(f"is not writable: {target}")
    final = Path(os.path.realpath(target))
    folder = final.parent if into is None else Path(tempfile.gettempdir())
    temporary = folder / f".{secrets.token_hex(8)}{target.suffix[:99]}"
    temporary.open("xb").close()
    try:
        yield str(temporary)
        if into is not None:
            _pour(temporary, into)
            return
        if there is not None:
            with contextlib.suppress(OSError, AttributeError):  # Windows has no owners
                os.chown(temporary, there.st_uid, there.st_gid)
            os.chmod(temporary, stat.S_IMODE(there.st_mode))
        os.replace(temporary, final)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _open_file(target: Path) -> int | None:
    """Return the number of the open file that a path such as /dev/stdout names, None for others."""
    for _ in range(40):  # links, at most, as the kernel has it
        parent = os.path.realpath(target.parent)
        if parent in ("/dev/fd", f"/proc/{os.getpid()}/fd") and target.name.isdigit():
            return int(target.name)
        if not target.is_symlink():
            return None
        target = Path(parent) / os.readlink(target)
    return None


def _pour(source: Path, target: Path | int) -> None:
    """Write a file into what is no regular file, or is open, from where that stands."""

    def uncut(path: str, _: int) -> int:
        return os.open(path, os.O_WRONLY)

    stream = os.dup(target) if isinstance(target, int) else target
    with open(source, "rb") as whole, open(stream, "wb", opener=uncut) as out:
        shutil.copyfileobj(whole, out)


def _reason(error: Exception) -> str:
    """Return why a file cannot be used, without the name of a temporary one."""
    return getattr(error, "strerror", None) or one_line(error)
