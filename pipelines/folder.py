"""Encoding many pictures: a folder in, a folder out, over as many machines as there are."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipelines.batch import encode_all
from pipelines.defaults import FAILURES, WHOLE
from pipelines.encoding import Encoding
from pipelines.places import MissingError, Place, place_of
from pipelines.plan import Picture, find, groups_of, some, targets_of
from taichi2dgs.fitting.options import FitResult
from taichi2dgs.settings import SETS
from taichi2dgs.storage.maps import Stack
from taichi2dgs.storage.paths import WriteError, one_line

Outcome = tuple[Picture, Any]  # a picture, and what has its `psnr`, or the error in its place
# What encodes pictures into the files of a place, and yields each when it is done with.
Engine = Callable[[dict[Picture, str], Place, Encoding], Iterator[Outcome]]
RECORD = ".taichi2dgs.json"  # the file that keeps the settings of a folder of .t2d files
T2D = {"format": "t2d"}  # what the record says of such files, beside how they were encoded
ENDINGS = (".t2d", *SETS.values())


class OtherSettingsError(ValueError):
    """Files that are there were made with other settings."""


def encode_folder(
    source: str | Path,
    out: str | Path,
    encoding: Encoding,
    shard: tuple[int, int] = WHOLE,
    quiet: bool | None = False,
    recursive: bool = False,
    engine: Engine | None = None,
) -> int:
    """Encode every picture of a folder that has no .t2d file yet.

    Files appear complete or not at all, so what is there is finished, and a run that was stopped
    goes on. A picture that fails is named and skipped. Settings are kept in the folder of files,
    so that a run with others is refused.

    Args:
        source: folder of pictures, or a tar shard of them, by a path or URL; see `plan.find`. What
            is left out is named.
        out: folder of .t2d files by a path or URL, made if it is not there; SUB/NAME.png becomes
            SUB/NAME.t2d.
        encoding: how.
        shard: (i, n): of the pictures in order of their names, every n-th from the i-th.
        quiet: no progress bar; None shows one on a terminal only.
        recursive: take the pictures of subfolders and tar shards, too.
        engine: what encodes; this process if None.

    Returns:
        0; 1 if a picture failed; 130 after Ctrl-C.

    Raises:
        ValueError: there are no pictures, two would become one file, or files that are there were
            made with other settings.
        WriteError: files cannot be written, which ends the run before the next fit.
    """
    place = place_of(out)
    found = find(source, recursive)
    targets = list(targets_of(found.pictures, place).items())
    mine = dict(targets[shard[0] - 1 :: shard[1]])
    there = place.there(mine.values())
    todo = {picture: target for picture, target in mine.items() if target not in there}
    for line in found.left_out:
        print(f"taichi2dgs: left out: {line}", file=sys.stderr)
    agree(place, encoding)
    failed: list[str] = []
    encoded_now = code = 0
    stopped: Exception | None = None
    bar = tqdm(total=len(mine), initial=len(mine) - len(todo), unit="picture", disable=quiet)
    with bar:
        try:
            for picture, result in (engine or encoded)(todo, place, encoding):
                if isinstance(result, Exception):
                    tqdm.write(f"taichi2dgs: skipped: {said(picture, result)}", file=sys.stderr)
                    failed.append(picture.name)
                else:
                    bar.set_postfix_str(f"{picture.name} {result.psnr:.2f} dB")
                    encoded_now += 1
                bar.update()
        except FAILURES as error:
            stopped = error
        except KeyboardInterrupt:
            code = 130
    names = f": {some(sorted(failed))}" if len(failed) > 1 else ""
    print(
        f"{place.label()}: {encoded_now} encoded, {len(mine) - len(todo)} were there, "
        f"{len(failed)} failed{names}"
    )
    if stopped is not None:
        raise stopped
    return code or int(bool(failed))


def said(picture: Picture, error: Exception) -> str:
    """Return one line that says what failed, with the name of the picture."""
    text = one_line(error)
    return text if str(picture) in text else f"{picture}: {text}"


def encoded(todo: dict[Picture, str], out: Place, encoding: Encoding) -> Iterator[Outcome]:
    """Encode pictures in this process, small ones together; yield each when it is done with."""
    for group in groups_of(list(todo), encoding):
        agree(out, encoding)
        for picture in group:
            out.check_room(todo[picture])
        if len(group) > 1:
            yield from _encoded_together(
                {picture: todo[picture] for picture in group}, out, encoding
            )
        else:
            yield group[0], tried(encode_file, group[0], out, todo[group[0]], encoding)


def _encoded_together(
    todo: dict[Picture, str], out: Place, encoding: Encoding
) -> Iterator[Outcome]:
    """Encode pictures in a fit of all that have as many channels; alone where that fails."""
    images: dict[Picture, Any] = {one: tried(one.stack, encoding.linear) for one in todo}
    alike: dict[int, list[Picture]] = {}
    for picture, image in images.items():
        if isinstance(image, Exception):
            yield picture, image
        else:
            alike.setdefault(image.image.shape[2], []).append(picture)
    for group in alike.values():
        for picture, result in fitted({one: images[one] for one in group}, encoding):
            failed = isinstance(result, Exception)
            saved = failed or tried(_save, result, images[picture], out, todo[picture], encoding)
            yield picture, saved if isinstance(saved, Exception) else result


def fitted(images: dict[Picture, Stack], encoding: Encoding) -> Iterator[Outcome]:
    """Fit pictures of as many channels together, and where that fails one after the other."""
    # What becomes of one must not depend on which others were still to be made.
    results = tried(partial(encode_all, together=False), encoding, list(images.values()))
    for n, (picture, image) in enumerate(images.items()):
        is_alone = isinstance(results, Exception)
        yield picture, tried(encoding.run, image) if is_alone else results[n]


def tried(call: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a call returns, or the error that ends one picture and not the others."""
    try:
        return call(*arguments)
    except WriteError:
        raise
    except FAILURES as error:
        return error


def encode_file(picture: Picture, out: Place, target: str, encoding: Encoding) -> FitResult:
    """Encode one picture and save it; nothing is saved of it if Ctrl-C comes before."""
    image = picture.stack(encoding.linear)
    result = encoding.run(image)
    _save(result, image, out, target, encoding)
    return result


def _save(result: FitResult, image: Any, out: Place, target: str, encoding: Encoding) -> None:
    name = out.label(target)
    data = encoding.file_of(result.gaussians, image, name=name, fitted=result.steps)
    out.write(target, data)


def agree(out: Place, encoding: Encoding, more: Mapping[str, Any] = T2D) -> None:
    """Keep the settings in a folder of files, or raise ValueError if it has files of others.

    Several runs may do so at once. It is asked before every fit, in case that two of them began
    with different settings. `more` are settings beside those of the encoding.
    """
    mine: dict[str, Any] = json.loads(json.dumps({**more, **asdict(encoding)}, default=str))
    try:
        there = T2D | json.loads(out.read(RECORD))
        wrong = [name for name in mine if name in there and there[name] != mine[name]]
    except MissingError:
        there, wrong = {}, []
    except (ValueError, TypeError) as error:
        raise OtherSettingsError(_said_of(out, error)) from error
    if there and not wrong:
        return
    made = has_files(out)
    if made and not there:
        print(
            f"taichi2dgs: {out.label()}: has files of unknown settings; they are kept",
            file=sys.stderr,
        )
    if made and wrong:
        name = wrong[0]
        raise OtherSettingsError(
            f"{out.label()}: its files were made with {name}={there[name]!r}, not {mine[name]!r}; "
            f"expected the same, another --out, or no {out.label(RECORD)}, without which they are "
            "mixed"
        )
    out.check_room(RECORD)
    out.write(RECORD, (json.dumps(mine, indent=1) + "\n").encode())


def _said_of(out: Place, error: Exception) -> str:
    """Return what is wrong with the record: why it cannot be read, or that it holds no settings."""
    text = one_line(error)
    is_named = text.startswith(out.label(RECORD))
    return text if is_named else f"{out.label(RECORD)}: cannot be read; expected settings"


def has_files(out: Place) -> bool:
    """Whether a place has .t2d files or those of a data set, in subfolders too."""
    try:
        return any(
            name.endswith(ENDINGS) and not name.rpartition("/")[2].startswith(".")
            for name, _ in out.walk()
        )
    except MissingError:
        return False
