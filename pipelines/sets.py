"""Encoding many pictures to a data set: arrays of one shape, in a few files."""

from __future__ import annotations

import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from pipelines.defaults import WHOLE
from pipelines.encoding import Encoding
from pipelines.folder import agree, fitted, said, tried
from pipelines.layout import Layout
from pipelines.places import URL, Folder
from pipelines.plan import LOST, Picture, find, groups_of, targets_of
from taichi2dgs.fitting.batch import fit_batch
from taichi2dgs.fitting.options import FitResult
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.settings import SETS
from taichi2dgs.storage import files, shard_files, shards
from taichi2dgs.storage.channels import with_channels
from taichi2dgs.storage.maps import Map, Stack
from taichi2dgs.storage.shards import Shard

BYTES = 1 << 26  # of the arrays in a file, unless told otherwise: it is held in memory


class Row(NamedTuple):
    """What is kept of a picture: (height, width), the PSNR in dB, and its array. [K, 5 + C]"""

    size: tuple[int, int]
    psnr: float
    params: np.ndarray


def encode_set(
    source: str | Path,
    out: str | Path,
    encoding: Encoding,
    layout: Layout,
    shard: tuple[int, int] = WHOLE,
    quiet: bool | None = False,
    recursive: bool = False,
) -> int:
    """Encode every picture of a folder that is not in a file of the data set yet.

    Which pictures a file has, and in which order, depends on their names alone: every S-th from the
    first, the second, ... on, of S files. So files are the same after a stop, or from several
    machines. A file appears when all of its pictures are done with; until then what is done is
    kept in a hidden one. A picture that fails is named and left out, and tried again by the next
    run.

    Args:
        source, out, encoding, quiet, recursive: see `pipelines.folder.encode_folder`.
        layout: of the data set.
        shard: (i, n): every n-th file from the i-th.

    Returns:
        0; 1 if a picture failed; 130 after Ctrl-C.

    Raises:
        ValueError: see `encode_folder`; or an option does not fit a data set, or files that are
            there are of other pictures.
        WriteError: files cannot be written.
    """
    shard_files.check_package(layout.format)
    if URL.match(str(out)):
        raise ValueError(f"{out}: a data set is written to a folder of this machine")
    out = Path(out)
    plan = _Plan(source, out, encoding, layout, recursive)
    plan.agree()
    for line in plan.left_out:
        print(f"taichi2dgs: left out: {line}", file=sys.stderr)
    numbers = range(shard[0] - 1, plan.count, shard[1])
    total = sum(len(plan.pictures(number)) for number in numbers)
    done = {"encoded": 0, "were there": 0, "failed": 0}
    code = 0
    with tqdm(total=total, unit="picture", disable=quiet) as bar:
        try:
            for number in numbers:
                _fill(plan, number, bar, done)
        except KeyboardInterrupt:
            code = 130
        finally:
            print(f"{out}: {', '.join(f'{n} {what}' for what, n in done.items())}")
    return code or int(done["failed"] > 0)


class _Plan:
    """Which pictures go to which file."""

    def __init__(
        self, source: str | Path, out: Path, encoding: Encoding, layout: Layout, recursive: bool
    ) -> None:
        self.out, self.encoding, self.layout = out, encoding, layout
        self.shape = layout.shape(encoding)
        found = find(source, recursive)
        self.left_out = found.left_out
        self.taken = list(targets_of(found.pictures, Folder(out)))
        self.names = [picture.name for picture in self.taken]
        self.classes, self.labels = shards.labelled(self.names)
        each = self.shape[0] * self.shape[1] * np.dtype(layout.dtype).itemsize
        self.count = -(-len(self.taken) // (layout.shard_size or max(1, BYTES // each)))
        crc = zlib.crc32("\n".join(self.names).encode("utf-8", "surrogateescape"))
        self.settings = asdict(layout) | {"pictures": f"{len(self.names)}, of names {crc:08x}"}

    def agree(self) -> None:
        """Raise ValueError if files that are there are of other settings or pictures."""
        agree(Folder(self.out), self.encoding, self.settings)

    def pictures(self, number: int) -> range:
        """Return the pictures of a file."""
        return range(number, len(self.taken), self.count)

    def file(self, number: int) -> Path:
        """Return a file of the data set."""
        ending = SETS[self.layout.format]
        return self.out / f"gaussians-{number:05d}-of-{self.count:05d}{ending}"

    def shard(self, found: dict[int, Row], blend: Gaussians) -> Shard:
        """Return rows as what a file holds."""
        order = sorted(found)
        return Shard(
            shards.about(blend, self.classes),
            np.array(order, np.int64),
            [self.names[index] for index in order],
            np.array([self.labels[index] for index in order], np.int32),
            np.array([found[index].size for index in order], np.int32),
            np.array([found[index].psnr for index in order], np.float32),
            np.stack([found[index].params for index in order]),
        )


def _fill(plan: _Plan, number: int, bar: tqdm, done: dict[str, int]) -> None:
    """Encode what a file lacks, and write it; what is done is kept, whatever ends it."""
    file = plan.file(number)
    part = file.with_name(f".{file.name}")
    found, count = _found(plan, number), len(plan.pictures(number))
    todo = {plan.taken[index]: index for index in plan.pictures(number) if index not in found}
    bar.update(count - len(todo))
    done["were there"] += count - len(todo)
    fresh: dict[int, Row] = {}
    blend: Gaussians | None = None
    since = time.monotonic()
    try:
        for group in groups_of(list(todo), plan.encoding):
            plan.agree()
            files.check_writable(part)
            for picture, result in _encoded(group, plan):
                if isinstance(result, Exception):
                    tqdm.write(f"taichi2dgs: skipped: {said(picture, result)}", file=sys.stderr)
                    done["failed"] += 1
                else:
                    row, blend = result
                    fresh[todo[picture]] = row
                    done["encoded"] += 1
                    bar.set_postfix_str(f"{picture.name} {row.psnr:.2f} dB")
                bar.update()
            if blend is not None and time.monotonic() - since > LOST:
                shard_files.write(part, plan.shard(found | fresh, blend))
                since = time.monotonic()
    except BaseException:
        if blend is not None:
            shard_files.write(part, plan.shard(found | fresh, blend))
        raise
    if blend is not None:
        shard_files.write(file, plan.shard(found | fresh, blend))
    elif found and not file.exists():
        part.replace(file)
    part.unlink(missing_ok=True)


def _found(plan: _Plan, number: int) -> dict[int, Row]:
    """Return the rows of a file's pictures that are there, in it or in the hidden one.

    Arrays are read unless all are there: the files that have them are written anew.
    """
    file = plan.file(number)
    index_of = {plan.names[index]: index for index in plan.pictures(number)}
    found: dict[int, Row] = {}
    for path in (file, file.with_name(f".{file.name}")):
        if not path.exists():
            continue
        there = shard_files.read(path)
        kind = (*there.params.shape, str(there.params.dtype))
        if kind != (*plan.shape, plan.layout.dtype) or not set(there.names) <= set(index_of):
            raise ValueError(
                f"{path}: {len(there)} pictures of {list(kind)}; expected some of the pictures of "
                f"this run, of {[*plan.shape, plan.layout.dtype]}"
            )
        is_whole = path == file and len(there) == len(index_of)
        for n, name in enumerate(there.names):
            size = (int(there.sizes[n, 0]), int(there.sizes[n, 1]))
            params = np.empty(0) if is_whole else there.params[n]
            found[index_of[name]] = Row(size, float(there.psnr[n]), params)
    return found


def _encoded(group: list[Picture], plan: _Plan) -> Iterator[tuple[Picture, Any]]:
    """Encode pictures in one fit, one by one where that fails; yield each with its row, and
    Gaussians that say how all of them blend, or with an error in place of both."""
    encoding, channels = plan.encoding, plan.layout.channels
    images: dict[Picture, Stack] = {}
    for picture in group:
        image = tried(read, picture, encoding.linear, channels)
        if isinstance(image, Exception):
            yield picture, image
        else:
            images[picture] = image
    for picture, result in fitted(images, encoding) if images else ():
        if isinstance(result, Exception):
            yield picture, result
        else:
            row = _row(result, images[picture], plan.layout.dtype)
            yield picture, (row, result.gaussians[:0])


def _row(result: FitResult, image: Stack, dtype: str) -> Row:
    """Return what is kept of a fit; the PSNR is that of the numbers as they are rounded."""
    g = result.gaussians
    params = shards.rows(g, dtype)
    if dtype == "float32":
        return Row(g.size, result.psnr, params)
    rounded = Gaussians.from_packed(
        torch.from_numpy(params.astype(np.float32)), g.size, g.settings, g.maps
    )
    return Row(g.size, fit_batch([image], [rounded], steps=0)[0].psnr, params)


def read(picture: Picture, linear: bool, channels: int) -> Stack:
    """Read a picture with so many channels, see `with_channels`.

    Raises:
        ValueError: it cannot be read, or holds other numbers than colours of sRGB or linear light,
            whose range would not be in the data set.
    """
    given = picture.stack(False)
    if any(one.kind != "srgb" for one in given.maps):
        raise ValueError(f"{picture}: floats beyond sRGB; expected integers of 8 or 16 bits")
    image = with_channels(given.image, channels)
    if not linear:
        return Stack(image)
    return Stack(image, (Map(channels=channels),)).linear()
