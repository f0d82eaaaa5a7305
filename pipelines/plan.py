"""What is to do with many pictures: which are taken, what becomes of each, which go together."""

from __future__ import annotations

import io
import math
import os
import tarfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from pipelines.defaults import K
from pipelines.encoding import Encoding
from pipelines.places import URL, Folder, Place, place_of, reading
from taichi2dgs import runtime
from taichi2dgs.storage import pictures, stacks
from taichi2dgs.storage.maps import Stack
from taichi2dgs.storage.paths import contents

# Pixels, or Gaussians, that are fitted together on cores, and on a GPU: more would gain nothing.
ROOM = (1 << 18, 1 << 22)
LOST = 60.0  # seconds of fits that Ctrl-C may lose, where one alone is not longer
NAMED = 5  # files or folders in one message
SHARD = ".tar"  # the ending of files whose members are pictures


@dataclass(eq=False)
class Picture:
    """A picture's file, or a member of a tar shard, wherever that is.

    Args:
        place: that it is in.
        name: below the source that it is of, with slashes.
        file: of the place that has it.
        size: its bytes.
        begin: where its bytes begin in the file, None if they are the whole file.
    """

    place: Place
    name: str
    file: str
    size: int
    begin: int | None = None
    _held: bytes | None = field(default=None, repr=False)

    def __str__(self) -> str:
        if self.begin is None:
            return self.place.label(self.file)
        inside = self.name.removeprefix(self.file.removesuffix(SHARD) + "/")
        return f"{self.place.label(self.file)}/{inside}"

    def stack(self, linear: bool) -> Stack:
        """Read it; raise ValueError if that cannot be done."""
        stack = pictures.decoded_picture(self._bytes(), str(self))
        self._held = None
        return stacks.as_stack(stack, linear)

    def pixels(self) -> float:
        """Return how many pixels it has, as its header says; infinity if that is unknown.

        What has to be fetched for that is kept until it is read.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of large pictures: reading warns of what it must
                with Image.open(self._path() or io.BytesIO(self._bytes())) as picture:
                    return picture.width * picture.height
        except Exception:  # whatever it is, reading the picture will say so
            return math.inf

    def guess(self) -> float:
        """Return how many pixels it has, or where that would fetch it, as many as it has bytes."""
        return self.pixels() if self._path() else float(self.size)

    def _path(self) -> Path | None:
        """Return the path of a whole file of this machine."""
        if isinstance(self.place, Folder) and self.begin is None:
            return self.place.root / self.file
        return None

    def _bytes(self) -> bytes:
        if path := self._path():
            return contents(path, pictures.MAX_BYTES)
        if self._held is None:
            if self.size > pictures.MAX_BYTES:
                most = pictures.MAX_BYTES
                raise ValueError(f"{self}: {self.size} bytes; expected {most} at most")
            part = () if self.begin is None else (self.begin, self.size)
            self._held = self.place.read(self.file, *part)
        return self._held


class Found(NamedTuple):
    """Pictures in order of their names, and lines that name what is not taken."""

    pictures: list[Picture]
    left_out: list[str]


def is_many(source: str | os.PathLike[str]) -> bool:
    """Whether a path or URL is one of many pictures: a folder or a tar shard."""
    text = os.fspath(source)
    return bool(URL.match(text)) or _is_shard(text) or Path(text).is_dir()


def find(source: str | os.PathLike[str], recursive: bool = False) -> Found:
    """Find the pictures of a folder or a tar shard.

    Args:
        source: path or URL. Hidden files are left out, and so are, unless `recursive`, subfolders
            and tar shards of a folder.
        recursive: take the pictures of subfolders and tar shards, too.

    Raises:
        ValueError: there are no pictures, or the source cannot be read.
    """
    text = os.fspath(source)
    if _is_shard(text) and not Path(text).is_dir():
        above, slash, name = text.replace(os.sep, "/").rpartition("/")
        place = place_of(above + slash if URL.match(text) else Path(text).parent)
        found, lines = list(_members(place, name)), []
    else:
        place = place_of(source)
        found, lines = _of_folder(place, recursive)
    hidden = sorted(name for one in found if (name := _last(one.name)).startswith("."))
    lines = [*([f"hidden files: {some(hidden)}"] if hidden else []), *lines]
    shown = [one for one in found if not _last(one.name).startswith(".")]
    if not shown:
        said = f"; left out: {'; '.join(lines)}" if lines else ""
        raise ValueError(f"{text}: no pictures there{said}")
    return Found(sorted(shown, key=lambda one: one.name.split("/")), lines)


def _of_folder(place: Place, recursive: bool) -> tuple[list[Picture], list[str]]:
    """Return what ends as pictures do, and lines that name subfolders and shards left out."""
    found: list[Picture] = []
    shards: list[str] = []
    for name, size in place.walk(recursive=recursive):
        if pictures.has_ending(Path(name)):
            found.append(Picture(place, name, name, size))
        elif _is_shard(name) and not _last(name).startswith("."):
            shards.append(name)
    if recursive:
        for shard in shards:
            below = shard.removesuffix(SHARD)
            found += _members(place, shard, f"{below}/")
        return found, []
    having = [
        folder for folder in place.folders() if any(_is_shown(e.name) for e in place.walk(folder))
    ]
    lines = [f"pictures in subfolders, which --recursive takes: {some(having)}"] if having else []
    if shards:
        lines.append(f"tar shards, which --recursive takes: {some(sorted(shards))}")
    return found, lines


def _members(place: Place, shard: str, below: str = "") -> Iterator[Picture]:
    """Yield what a tar shard has that ends as pictures do."""
    with (
        reading(place.label(shard)),
        place.open(shard) as stream,
        tarfile.open(fileobj=stream, mode="r:") as tar,
    ):
        for member in tar:
            name = member.name.removeprefix("./")
            if not member.isreg() or not pictures.has_ending(Path(name)):
                continue
            if name.startswith("/") or ".." in name.split("/"):
                raise ValueError(f"has a member {name}; expected names below it")
            yield Picture(place, below + name, shard, member.size, member.offset_data)


def _is_shard(name: str) -> bool:
    return name.lower().endswith(SHARD)


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _is_shown(name: str) -> bool:
    return pictures.has_ending(Path(name)) and not _last(name).startswith(".")


def some(names: list[str]) -> str:
    """Return a few names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def targets_of(found: Iterable[Picture], out: Place) -> dict[Picture, str]:
    """Return the name of the .t2d file that each picture becomes: of SUB/NAME.png SUB/NAME.t2d.

    Raises:
        ValueError: two would become one file.
    """
    targets: dict[Picture, str] = {}
    taken: dict[str, Picture] = {}
    for picture in found:
        target = os.path.splitext(picture.name)[0] + ".t2d"
        other = taken.setdefault(os.path.normcase(target), picture)
        if other is not picture:
            label = out.label(target)
            raise ValueError(f"{picture}: two pictures would become {label}; rename one")
        targets[picture] = target
    return targets


def groups_of(
    found: list[Picture],
    encoding: Encoding,
    pixels: Callable[[Picture], float] = Picture.pixels,
    on_gpu: bool | None = None,
    parts: int = 1,
) -> Iterator[list[Picture]]:
    """Yield pictures that are to be encoded together: a large one, or several small ones.

    A picture takes as much room as it has pixels or Gaussians, whichever are more. Searches for a
    number of Gaussians go picture by picture. A group in seconds takes no longer than `LOST`, which
    Ctrl-C would lose.

    Args:
        found: the pictures.
        encoding: how.
        pixels: returns how many pixels a picture has.
        on_gpu: whether a GPU encodes them; as it is in this process if None.
        parts: of which a group is at most one, where what is left is shared out evenly: with more
            workers than one, groups become smaller towards the end, so that all end together.
    """
    most = len(found)
    if encoding.searches:
        most = 1
    elif encoding.seconds:
        most = max(1, min(most, int(LOST / encoding.seconds)))
    room = ROOM[runtime.is_gpu() if on_gpu is None else on_gpu]
    k = encoding.k if isinstance(encoding.k, int) else K
    group: list[Picture] = []
    filled = 0.0
    left = len(found)
    for picture in found:
        needed = max(pixels(picture), k)
        if group and (filled + needed > room or len(group) >= min(most, left // parts)):
            yield group
            left -= len(group)
            group, filled = [], 0.0
        group.append(picture)
        filled += needed
    if group:
        yield group
