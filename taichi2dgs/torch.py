"""Gaussians as a data set of torch. It starts no backend, so that DataLoader's workers may fork."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from taichi2dgs.checks import shown, whole
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.settings import SETS, RenderSettings
from taichi2dgs.storage import shard_files, shards, t2d
from taichi2dgs.storage.maps import Map
from taichi2dgs.storage.shards import NONE, Shard


class GaussianFolder(Dataset):
    """A folder that `taichi2dgs encode DIR --out` made, as a data set of torch.

    An item is a dict, which PyTorch's collate function takes:

    - `gaussians`: x, y, two log-scales, theta and colours, one row each, along a Z-shaped curve.
      The first axis is the longer one, and theta lies in [0, pi). float32 [K, 5 + C]
    - `size`: (height, width) of the picture in pixels. int64 [2]
    - `label`: number of the picture's class in `classes`, which are the first subfolders; -1 where
      it is in none.
    - `name`: path of the picture in its folder; of a .t2d file, that file's.
    - `psnr`: in dB, float32; NaN of .t2d files, which do not hold it.

    Args:
        root: folder of files of one format: .npz, .parquet or .tar; or of .t2d files, which have as
            many Gaussians and channels each, in subfolders, too. Hidden files are left out.
        transform: called with every item; what it returns takes the item's place.

    Raises:
        ValueError: there are no such files, or files of several formats, shapes or runs; one is
            damaged; or a package is missing. Of .t2d files only the first is read at once; others
            raise it when they are indexed.

    >>> import taichi2dgs as t2
    >>> for label, value in (("dark", 0.2), ("light", 0.9)):
    ...     Path(label).mkdir()
    ...     picture = torch.full((8, 9, 3), value)
    ...     t2.encode(picture, k=20, steps=0, start="random").save(f"{label}/0.t2d")
    >>> dataset = GaussianFolder(".")
    >>> batch = next(iter(torch.utils.data.DataLoader(dataset, batch_size=2)))
    >>> batch["gaussians"].shape, batch["label"], dataset.classes
    (torch.Size([2, 20, 8]), tensor([0, 1]), ['dark', 'light'])
    """

    def __init__(self, root: Any, transform: Callable[[dict[str, Any]], Any] | None = None) -> None:
        if transform is not None and not callable(transform):
            raise ValueError(f"transform={shown(transform)}; expected a function, or None")
        try:
            self.root = Path(os.fsdecode(root))
        except TypeError:
            raise ValueError(f"root={shown(root)}; expected the path of a folder") from None
        self.transform = transform
        files, ending = _files(self.root)
        self.names: list[str] = []
        self.labels: list[int] = []
        self.classes: list[str] = []
        self._shards: list[Shard] = []
        self._places: list[tuple[int, int]] = []  # shard and row of each picture
        if ending == ".t2d":
            self._list(files)
        else:
            self._open(files)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Any:
        """Return an item, or what the transform makes of it.

        Raises:
            ValueError: the file is damaged, or a .t2d file of another shape than the first.
            IndexError: there is no such item.
        """
        n = self._checked(index)
        params, size, psnr = self._row(n)
        item = {
            "gaussians": torch.from_numpy(params.astype(np.float32)),
            "size": torch.tensor(size),
            "label": self.labels[n],
            "name": self.names[n],
            "psnr": torch.tensor(psnr, dtype=torch.float32),
        }
        return item if self.transform is None else self.transform(item)

    def gaussians(self, index: int) -> Gaussians:
        """Return an item as Gaussians, which can be rendered.

        Raises:
            ValueError, IndexError: as of an item.
        """
        n = self._checked(index)
        if not self._shards:
            return t2d.load(self.root / self.names[n])
        params, size, _ = self._row(n)
        about = self._shards[0].about
        settings = RenderSettings(**{one.name: about[one.name] for one in fields(RenderSettings)})
        channels = params.shape[1] - len(shards.SHAPE)
        maps = () if about["colors"] == "srgb" else (Map("", channels, about["colors"]),)
        tensor = torch.from_numpy(params.astype(np.float32))
        return Gaussians.from_packed(tensor, (size[0], size[1]), settings, maps)

    def _checked(self, index: object) -> int:
        n = whole(index, "index", -(1 << 62))
        if not -len(self) <= n < len(self):
            raise IndexError(f"index={n}; expected one of {len(self)} pictures")
        return n % len(self)

    def _row(self, n: int) -> tuple[np.ndarray, list[int], float]:
        """Return parameters, size and PSNR of a picture."""
        if self._shards:
            shard, row = self._shards[self._places[n][0]], self._places[n][1]
            return shard.params[row], shard.sizes[row].tolist(), float(shard.psnr[row])
        g = t2d.load(self.root / self.names[n])
        params = shards.rows(g, "float32")
        if params.shape != self.shape:
            raise ValueError(
                f"{self.root / self.names[n]}: an array of {list(params.shape)}; expected "
                f"{list(self.shape)}, as {self.names[0]} has"
            )
        return params, list(g.size), float("nan")

    def _list(self, files: list[Path]) -> None:
        """Take .t2d files."""
        self.names = [file.relative_to(self.root).as_posix() for file in files]
        self.classes, self.labels = shards.labelled(self.names)
        first = t2d.load(files[0])
        self.shape = (len(first), len(shards.SHAPE) + first.channels)

    def _open(self, files: list[Path]) -> None:
        """Take shards, and bring their pictures to the order of the whole set."""
        self._shards = [shard_files.read(file) for file in files]
        first = self._shards[0]
        self.shape = tuple(first.params.shape)
        for file, shard in zip(files, self._shards, strict=True):
            if shard.params.shape != self.shape or _differs(shard, first):
                raise ValueError(
                    f"{file}: arrays of {list(shard.params.shape)} by {shown(shard.about)}; "
                    f"expected as in {files[0].name}, {list(self.shape)}"
                )
        found = sorted(
            (int(shard.index[row]), number, row)
            for number, shard in enumerate(self._shards)
            for row in range(len(shard))
        )
        self._places = [(number, row) for _, number, row in found]
        self.names = [self._shards[number].names[row] for number, row in self._places]
        self.labels = [int(self._shards[number].labels[row]) for number, row in self._places]
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"{self.root}: files have a picture twice; expected files of one run")
        of = {
            label: shards.class_of(name)
            for label, name in zip(self.labels, self.names, strict=True)
        }
        given = first.about["classes"] or []  # tar files do not hold those of other files
        self.classes = given or [of.get(label, "") for label in range(max(of, default=NONE) + 1)]


def _differs(shard: Shard, other: Shard) -> bool:
    """Whether colours, or how Gaussians blend, are not the same."""
    return any(shard.about[name] != other.about[name] for name in other.about)


def _files(root: Path) -> tuple[list[Path], str]:
    """Return the files of a folder, in order, and the ending that all of them have."""
    if not os.path.isdir(root):
        raise ValueError(f"{root}: no such folder; expected one that `taichi2dgs encode` made")
    found: dict[str, list[Path]] = {}
    for ending in SETS.values():
        found[ending] = sorted(p for p in root.glob(f"*{ending}") if p.name[0] != ".")
    found[".t2d"] = sorted(
        path
        for path in root.rglob("*.t2d")
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    )
    kinds = [ending for ending, paths in found.items() if paths]
    if len(kinds) != 1:
        there = " and ".join(kinds) or f"none of {', '.join(found)}"
        raise ValueError(f"{root}: has {there}; expected files of one format")
    return found[kinds[0]], kinds[0]
