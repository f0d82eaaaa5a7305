"""Encoding many pictures: a folder in, a folder out, over as many machines as there are."""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from pipelines.batch import encode_all
from pipelines.defaults import FAILURES, WHOLE, K
from pipelines.encoding import Encoding
from taichi2dgs import runtime
from taichi2dgs.fitting.options import FitResult
from taichi2dgs.settings import SETS
from taichi2dgs.storage import files, pictures
from taichi2dgs.storage.stacks import as_stack

Outcome = tuple[Path, Any]  # a picture's file, and its FitResult, or the error in its place
# Pixels, or Gaussians, that are fitted together on cores, and on a GPU: more would gain nothing.
ROOM = (1 << 18, 1 << 22)
LOST = 60.0  # seconds of fits that Ctrl-C may lose, where one alone is not longer
RECORD = ".taichi2dgs.json"  # the file that keeps the settings of a folder of .t2d files
T2D = {"format": "t2d"}  # what the record says of such files, beside how they were encoded
NAMED = 5  # files or folders in one message


def encode_folder(
    source: Path,
    out: Path,
    encoding: Encoding,
    shard: tuple[int, int] = WHOLE,
    quiet: bool | None = False,
    recursive: bool = False,
) -> int:
    """Encode every picture of a folder that has no .t2d file yet.

    Files appear complete or not at all, so what is there is finished, and a run that was stopped
    goes on. A picture that fails is named and skipped. Settings are kept in the folder of files,
    so that a run with others is refused.

    Args:
        source: folder of pictures. Hidden files are left out, and so are, unless `recursive`,
            subfolders; both are named.
        out: folder of .t2d files, made if it is not there; SUB/NAME.png becomes SUB/NAME.t2d.
        encoding: how.
        shard: (i, n): of the pictures in order of their names, every n-th from the i-th.
        quiet: no progress bar; None shows one on a terminal only.
        recursive: take the pictures of subfolders, too.

    Returns:
        0; 1 if a picture failed; 130 after Ctrl-C.

    Raises:
        ValueError: there are no pictures, two would become one file, or files that are there were
            made with other settings.
        WriteError: files cannot be written, which ends the run before the next fit.
    """
    targets = targets_of(source, out, recursive)
    mine = list(targets.items())[shard[0] - 1 :: shard[1]]
    todo = {path: target for path, target in mine if not _is_there(target)}
    for line in left_out(source, recursive):
        print(f"taichi2dgs: left out: {line}", file=sys.stderr)
    agree(out, encoding)
    failed = encoded = code = 0
    stopped: ValueError | None = None
    bar = tqdm(total=len(mine), initial=len(mine) - len(todo), unit="picture", disable=quiet)
    with bar:
        try:
            for path, result in _encoded(todo, out, encoding):
                if isinstance(result, Exception):
                    text = files.one_line(result)
                    line = text if str(path) in text else f"{path}: {text}"
                    tqdm.write(f"taichi2dgs: skipped: {line}", file=sys.stderr)
                    failed, code = failed + 1, 1
                else:
                    bar.set_postfix_str(f"{path.name} {result.history[-1].psnr:.2f} dB")
                    encoded += 1
                bar.update()
        except (files.WriteError, _OtherSettingsError) as error:
            stopped = error
        except KeyboardInterrupt:
            code = 130
    print(f"{out}: {encoded} encoded, {len(mine) - len(todo)} were there, {failed} failed")
    if stopped is not None:
        raise stopped
    return code


def _encoded(todo: dict[Path, Path], out: Path, encoding: Encoding) -> Iterator[Outcome]:
    """Encode picture files, small ones together; yield each when it is done with."""
    for paths in groups_of(list(todo), encoding):
        agree(out, encoding)
        for path in paths:
            _check_room(todo[path])
        if len(paths) > 1:
            yield from _encoded_together({path: todo[path] for path in paths}, encoding)
        else:
            yield paths[0], tried(encode_file, paths[0], todo[paths[0]], encoding)


def groups_of(paths: list[Path], encoding: Encoding) -> Iterator[list[Path]]:
    """Yield pictures that are to be encoded together: a large one, or several small ones.

    A picture takes as much room as it has pixels or Gaussians, whichever are more. Searches for a
    number of Gaussians go picture by picture. A group in seconds takes no longer than `LOST`, which
    Ctrl-C would lose.
    """
    most = len(paths)
    if encoding.searches:
        most = 1
    elif encoding.seconds:
        most = max(1, int(LOST / encoding.seconds))
    room, k = ROOM[runtime.is_gpu()], encoding.k if isinstance(encoding.k, int) else K
    group: list[Path] = []
    filled = 0.0
    for path in paths:
        needed = max(_pixels(path), k)
        if group and (filled + needed > room or len(group) >= most):
            yield group
            group, filled = [], 0.0
        group.append(path)
        filled += needed
    if group:
        yield group


def _pixels(path: Path) -> float:
    """Return how many pixels a picture has, as its header says; infinity if that is unknown."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures: reading warns of what it must
            with Image.open(path) as picture:
                return picture.width * picture.height
    except Exception:  # whatever it is, reading the picture will say so
        return math.inf


def _encoded_together(todo: dict[Path, Path], encoding: Encoding) -> Iterator[Outcome]:
    """Encode picture files in a fit of all that have as many channels; alone where that fails."""
    images: dict[Path, Any] = {path: tried(as_stack, path, encoding.linear) for path in todo}
    alike: dict[int, list[Path]] = {}
    for path, image in images.items():
        if isinstance(image, Exception):
            yield path, image
        else:
            alike.setdefault(image.image.shape[2], []).append(path)
    for paths in alike.values():
        given = [images[path] for path in paths]
        # A file must not depend on which others were still to be made.
        results = tried(partial(encode_all, together=False), encoding, given)
        for n, path in enumerate(paths):
            if isinstance(results, Exception):
                yield path, tried(encode_file, path, todo[path], encoding)
                continue
            saved = tried(encoding.save, todo[path], results[n].gaussians, images[path])
            yield path, results[n] if saved is None else saved


def tried(call: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a call returns, or the error that ends one picture and not the others."""
    try:
        return call(*arguments)
    except files.WriteError:
        raise
    except FAILURES as error:
        return error


def targets_of(source: Path, out: Path, recursive: bool = False) -> dict[Path, Path]:
    """Return the .t2d file that each picture of a folder becomes, in order of their names.

    Raises:
        ValueError: there are no pictures, two would become one file, or a folder cannot be read.
    """
    paths = sorted(path for path in _walk(source, recursive) if pictures.is_picture(path))
    if not paths:
        lines = "; ".join(left_out(source, recursive))
        raise ValueError(f"{source}: no pictures there" + (f"; left out: {lines}" if lines else ""))
    targets: dict[Path, Path] = {}
    taken: set[str] = set()
    for path in paths:
        target = (out / path.relative_to(source)).with_suffix(".t2d")
        name = os.path.normcase(target)
        if name in taken:
            raise ValueError(f"{source}: two pictures would become {target}; rename one")
        taken.add(name)
        targets[path] = target
    return targets


def left_out(source: Path, recursive: bool) -> list[str]:
    """Return lines that name what looks like pictures and is not taken."""
    by_name = (path for path in _walk(source, recursive) if pictures.has_ending(path))
    hidden = sorted(path.name for path in by_name if path.name.startswith("."))
    lines = [f"hidden files: {_some(hidden)}"] if hidden else []
    if not recursive:
        shown = (path for path in source.iterdir() if not path.name.startswith("."))
        folders = (path for path in shown if path.is_dir() and not path.is_symlink())
        having = sorted(
            folder.name for folder in folders if any(map(pictures.is_picture, _walk(folder, True)))
        )
        if having:
            lines.append(f"pictures in subfolders, which --recursive takes: {_some(having)}")
    return lines


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _walk(source: Path, recursive: bool) -> Iterator[Path]:
    """Yield what is in a folder and is none, and what is in subfolders that are not hidden."""

    def fail(error: OSError) -> None:
        raise ValueError(f"{error.filename}: cannot be read ({error.strerror})") from error

    for folder, folders, names in os.walk(source, onerror=fail):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        yield from (Path(folder) / name for name in names)


def _is_there(target: Path) -> bool:
    if target.is_dir():
        raise ValueError(f"{target}: is a folder, where a file is to be; rename it")
    return target.exists()


def _check_room(target: Path) -> None:
    """Raise WriteError if a file could not be written; make the folder that it is to be in."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.WriteError(
            f"{target.parent}: cannot be made ({error.strerror or error})"
        ) from error
    files.check_writable(target)


class _OtherSettingsError(ValueError):
    """Files that are there were made with other settings."""


def agree(out: Path, encoding: Encoding, more: Mapping[str, Any] = T2D) -> None:
    """Keep the settings in a folder of files, or raise ValueError if it has files of others.

    Several runs may do so at once. It is asked before every fit, in case that two of them began
    with different settings. `more` are settings beside those of the encoding.
    """
    record = out / RECORD
    mine: dict[str, Any] = json.loads(json.dumps({**more, **asdict(encoding)}, default=str))
    try:
        there = T2D | json.loads(record.read_text(encoding="utf-8"))
        wrong = [name for name in mine if name in there and there[name] != mine[name]]
    except (FileNotFoundError, NotADirectoryError):
        there, wrong = {}, []
    except (OSError, ValueError, TypeError) as error:
        raise _OtherSettingsError(f"{record}: cannot be read; expected settings") from error
    if there and not wrong:
        return
    made = any(path.suffix in (".t2d", *SETS.values()) for path in out.rglob("*"))
    if made and not there:
        print(f"taichi2dgs: {out}: has files of unknown settings; they are kept", file=sys.stderr)
    if made and wrong:
        name = wrong[0]
        raise _OtherSettingsError(
            f"{out}: its files were made with {name}={there[name]!r}, not {mine[name]!r}; expected "
            f"the same, another --out, or no {record}, without which they are mixed"
        )
    _check_room(record)
    with files.writing(record) as temporary:
        Path(temporary).write_text(json.dumps(mine, indent=1) + "\n", encoding="utf-8")


def encode_file(path: Path, target: Path, encoding: Encoding) -> FitResult:
    """Encode one picture file and save it; nothing is saved of it if Ctrl-C comes before."""
    image = as_stack(path, encoding.linear)
    result = encoding.run(image)
    encoding.save(target, result.gaussians, image)
    return result
