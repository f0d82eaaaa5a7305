"""Folders that pictures come from and files go to: of this machine, or by URLs of fsspec."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from taichi2dgs.storage import t2d
from taichi2dgs.storage.paths import WriteError, check_writable, one_line

URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs",
            "abfs": "adlfs"}  # fmt: skip
OWN = "memory"  # what a process has for itself
BLOCK = 1 << 20  # bytes that are fetched at once where a file is not read in order
FEW = 64  # names that are asked for one by one; for more, the whole place is listed


class MissingError(ValueError):
    """A file or folder is not there; the message names it."""


class Entry(NamedTuple):
    """A file of a place: its name, with slashes on every system, and its bytes."""

    name: str
    size: int


def place_of(where: str | os.PathLike[str]) -> Place:
    """Return the folder that a path or URL names; whether it is there, its methods say.

    Raises:
        ValueError: nothing installed knows such URLs; the message names it.
    """
    text = os.fspath(where)
    if not URL.match(text):
        return Folder(Path(text))
    if text.startswith("file://"):
        return Folder(Path(text.removeprefix("file://")))
    _opened(text)
    return Url(text.rstrip("/"))


class Place:
    """What local folders and URLs have in common. A name in a place has slashes."""

    def label(self, name: str = "") -> str:
        """Return what messages call a file of it, or the place itself."""
        raise NotImplementedError

    def walk(self, below: str = "", recursive: bool = True) -> Iterator[Entry]:
        """Yield its files, hidden ones too, but not those of hidden subfolders.

        Raises:
            ValueError: it cannot be read.
        """
        raise NotImplementedError

    def folders(self) -> list[str]:
        """Return the names of its subfolders that are not hidden."""
        raise NotImplementedError

    def open(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """Open a file for reading; errors are those of its system."""
        raise NotImplementedError

    def read(self, name: str, begin: int = 0, size: int | None = None) -> bytes:
        """Return a file, or a part of it.

        Raises:
            ValueError: it cannot be read; MissingError if it is not there.
        """
        with reading(self.label(name)), self.open(name) as stream:
            stream.seek(begin)
            return stream.read(-1 if size is None else size)

    def there(self, names: Iterable[str]) -> set[str]:
        """Return which of some files are there.

        Raises:
            ValueError: one of them is a folder, or the place cannot be read.
        """
        raise NotImplementedError

    def check_room(self, name: str) -> None:
        """Raise WriteError if a file could not be written; make the folder that it is to be in."""
        raise NotImplementedError

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all; raise WriteError where that fails."""
        raise NotImplementedError


@dataclass(frozen=True)
class Folder(Place):
    """A folder of this machine."""

    root: Path

    def label(self, name: str = "") -> str:
        return str(self.root / name)

    def walk(self, below: str = "", recursive: bool = True) -> Iterator[Entry]:
        def fail(error: OSError) -> None:
            with reading(str(error.filename)):
                raise error

        for folder, folders, names in os.walk(self.root / below, onerror=fail):
            folders[:] = [name for name in folders if recursive and not name.startswith(".")]
            above = Path(folder).relative_to(self.root)
            for name in names:
                path = os.path.join(folder, name)
                if os.path.isfile(path):
                    yield Entry((above / name).as_posix(), os.path.getsize(path))

    def folders(self) -> list[str]:
        shown = (path for path in self.root.iterdir() if not path.name.startswith("."))
        return sorted(path.name for path in shown if path.is_dir() and not path.is_symlink())

    def open(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        return open(self.root / name, "rb")

    def there(self, names: Iterable[str]) -> set[str]:
        found = set()
        for name in names:
            if (self.root / name).is_dir():
                raise ValueError(
                    f"{self.label(name)}: is a folder, where a file is to be; rename it"
                )
            if (self.root / name).exists():
                found.add(name)
        return found

    def check_room(self, name: str) -> None:
        target = self.root / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(
                f"{target.parent}: cannot be made ({error.strerror or error})"
            ) from error
        check_writable(target)

    def write(self, name: str, data: bytes) -> None:
        t2d.write(self.root / name, data)


@dataclass(frozen=True)
class Url(Place):
    """A folder by a URL that fsspec knows, such as s3://BUCKET/FOLDER."""

    url: str

    def label(self, name: str = "") -> str:
        return f"{self.url}/{name}" if name else self.url

    def walk(self, below: str = "", recursive: bool = True) -> Iterator[Entry]:
        system, root = _opened(self.url)
        folder = f"{root}/{below}" if below else root
        with reading(self.label(below)):
            found = system.find(folder, detail=True) if recursive else self._listed()
        for path, about in found.items():
            name = path[len(root) :].strip("/")
            hidden = any(part.startswith(".") for part in name.split("/")[:-1])
            if name and about["type"] == "file" and not hidden:
                yield Entry(name, int(about.get("size") or 0))

    def folders(self) -> list[str]:
        with reading(self.label()):
            found = self._listed()
        names = (path.rstrip("/").rpartition("/")[2] for path, about in found.items()
                 if about["type"] == "directory")  # fmt: skip
        return sorted(name for name in names if not name.startswith("."))

    def _listed(self) -> dict[str, Any]:
        system, root = _opened(self.url)
        return {about["name"]: about for about in system.ls(root, detail=True)}

    def open(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        system, root = _opened(self.url)
        return system.open(f"{root}/{name}", "rb", block_size=BLOCK)

    def read(self, name: str, begin: int = 0, size: int | None = None) -> bytes:
        system, root = _opened(self.url)
        with reading(self.label(name)):
            end = None if size is None else begin + size
            return system.cat_file(f"{root}/{name}", begin or None, end)

    def there(self, names: Iterable[str]) -> set[str]:
        system, root = _opened(self.url)
        wanted = list(names)
        with reading(self.label()):
            if len(wanted) <= FEW:
                return {name for name in wanted if system.isfile(f"{root}/{name}")}
            return {entry.name for entry in self.walk()} & set(wanted)

    def check_room(self, name: str) -> None:
        _probe(self)

    def write(self, name: str, data: bytes) -> None:
        system, root = _opened(self.url)
        path = f"{root}/{name}"
        try:
            if self.url.partition("://")[0] in (*PACKAGES, OWN):  # there, files appear when whole
                system.pipe_file(path, data)
                return
            folder = path.rpartition("/")[0]
            system.makedirs(folder, exist_ok=True)
            temporary = f"{folder}/.{secrets.token_hex(8)}"
            try:
                system.pipe_file(temporary, data)
                system.mv(temporary, path)
            except BaseException:
                with contextlib.suppress(Exception):
                    system.rm_file(temporary)
                raise
        except Exception as error:  # each system has its own
            raise WriteError(f"{self.label(name)}: cannot be written ({_reason(error)})") from error


@functools.cache
def _probe(place: Url) -> None:
    """Raise WriteError if nothing can be written to a place; once for a process."""
    name = f".{secrets.token_hex(8)}.probe"
    place.write(name, b"")
    system, root = _opened(place.url)
    with contextlib.suppress(Exception):  # a place where nothing may be deleted will do
        system.rm_file(f"{root}/{name}")


@functools.cache
def _opened(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and what it calls the place."""
    kind = url.partition("://")[0]
    try:
        fsspec = importlib.import_module("fsspec")
        # Others write there, too, so that no list of files may be kept.
        system, root = fsspec.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        package = PACKAGES.get(kind, "the package of such URLs")
        extra = ", by the extra taichi2dgs[remote]" if kind in ("s3", "s3a") else ""
        raise ValueError(f"{url}: needs fsspec and {package}; install it{extra}") from error
    except Exception as error:
        raise ValueError(f"{url}: cannot be read ({_reason(error)})") from error
    return system, root.rstrip("/")


@contextlib.contextmanager
def reading(label: str) -> Iterator[None]:
    """Raise what fails while something is read as a ValueError that names it."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingError(f"{label}: cannot be read ({_reason(error)})") from error
    except Exception as error:  # each file system has its own
        raise ValueError(f"{label}: cannot be read ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or one_line(error)
