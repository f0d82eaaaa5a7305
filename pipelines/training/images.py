"""Photographs for training: finding them, and crops that depend on nothing but their number."""

from __future__ import annotations

import hashlib
import logging
import math
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from nets.unet import AREA
from pipelines.fields import Range
from pipelines.starts.prior import as_rgb
from pipelines.training import synthetic
from taichi2dgs.storage import files, pictures

log = logging.getLogger("taichi2dgs")

SUFFIXES = frozenset(pictures.ENDINGS)
HELD_OUT = 20  # one image in so many validates, where no folder of them is there
PANEL = "panel-"  # begins the names of pictures that a training draws
HEAD = 1 << 16  # bytes of a file that tell it from another of its size
LOOKERS = 8  # threads that read headers
NAMED = 5  # broken images in a message, at most


class Pictures(NamedTuple):
    """The photographs of a training.

    Args:
        train, valid: those to learn from and those to validate on, in order; none is in both.
        digest: of both lists, in order: of each file its size and its first bytes.
    """

    train: list[Path]
    valid: list[Path]
    digest: str


def find(
    data: str | Path,
    valid: str | Path | None = None,
    out: str | Path | None = None,
    quiet: bool = True,
) -> Pictures:
    """Return the images to train on and those to validate on.

    The header of every file is read; a file without a good one is left out, and the log says so.

    Args:
        data: a folder, searched with all that is in it. Images in a folder that has "valid" in its
            name validate (DIV2K's DIV2K_valid_HR); if there is none, every twentieth image does.
        valid: a folder of images to validate on instead; those of `data` that are there too, under
            whatever name of the folder, are not trained on.
        out: the folder of the training; the panels that it draws there are no photographs.
        quiet: no progress bar.

    Raises:
        ValueError: a folder has no images.
    """
    named, checked = _named(data, out), _named(valid, out) if valid is not None else []
    marks = _look(dict.fromkeys(named + checked), quiet)
    found, validating = ([path for path in part if path in marks] for part in (named, checked))
    for folder, part in ((data, found), (valid, validating)):
        if folder is not None and not part:
            raise ValueError(f"{folder}: no image there that can be read")
    if valid is None:
        validates = ["valid" in path.parent.name.lower() for path in found]
        if not any(validates) or all(validates):
            validates = [index % HELD_OUT == 0 for index in range(len(found))]
        validating = [path for path, mine in zip(found, validates, strict=True) if mine]
    validate = {path.resolve() for path in validating}
    train = [path for path in found if path.resolve() not in validate]
    if not train:
        raise ValueError(
            f"--data {data}: none of {len(found)} images is left to train on; they all validate"
        )
    lists = [[marks[path] for path in part] for part in (train, validating)]
    return Pictures(train, validating, hashlib.sha256(repr(lists).encode()).hexdigest())


def _named(folder: str | Path, out: str | Path | None) -> list[Path]:
    """Return the images by name of a folder and all in it, but for panels that `out` got."""
    named = (path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    found = sorted(path for path in named if not path.is_dir())
    if out is not None:
        drawn = set(Path(out).resolve().glob(f"{PANEL}*.png"))
        found = [path for path in found if not drawn or path.resolve() not in drawn]
    if not found:
        raise ValueError(f"{folder}: no images there; expected {', '.join(sorted(SUFFIXES))}")
    return found


def _look(paths: Iterable[Path], quiet: bool) -> dict[Path, tuple[int, str]]:
    """Read the headers of images; return the size and a digest of those that have a good one."""
    paths = list(paths)
    Image.init()  # once, before there are threads
    good, bad = {}, []
    bar = tqdm(total=len(paths), desc="look at images", disable=quiet, delay=2, leave=False)
    with bar, ThreadPoolExecutor(LOOKERS) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, of large pictures
        for path, (mark, reason) in zip(paths, pool.map(_header, paths), strict=True):
            if mark is None:
                bad.append(f"{path} ({reason})")
            else:
                good[path] = mark
            bar.update()
    if bad:
        more = f", and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        log.warning(
            "left out %d of %d images, which cannot be read: %s%s",
            len(bad),
            len(paths),
            ", ".join(bad[:NAMED]),
            more,
        )
    return good


def _header(path: Path) -> tuple[tuple[int, str] | None, str]:
    """Return the size and a digest of an image file, or None and what is wrong with it."""
    try:
        if not path.is_file():
            return None, "no regular file"
        size = path.stat().st_size
        if size > pictures.MAX_BYTES:
            return None, f"{size} bytes; expected {pictures.MAX_BYTES} at most"
        with open(path, "rb") as file:
            start = file.read(HEAD)
            file.seek(0)
            kinds = [kind for kind in pictures.READ if kind in Image.OPEN]
            with Image.open(file, formats=kinds) as picture:
                if picture.width * picture.height > pictures.MAX_PIXELS:
                    return None, f"more than {pictures.MAX_PIXELS} pixels"
    except Exception as error:  # decoders raise anything from OSError to SyntaxError
        return None, pictures.one_line(error)
    return (size, hashlib.sha256(start).hexdigest()), ""


@dataclass(frozen=True)
class Variety:
    """What crops are besides parts of photographs, flipped and turned.

    Args:
        synthetic: share of crops that are drawn by script instead; see `synthetic.picture`.
        scale: lowest and highest factor of a photograph's size; drawn log-uniformly.
        color: share of photographs whose colours are changed; see `recolored`.
    """

    synthetic: Annotated[float, Range(0, 1)] = 0.0
    scale: Annotated[tuple[float, float], Range(0.05, 8)] = (1.0, 1.0)
    color: Annotated[float, Range(0, 1)] = 0.0

    def __post_init__(self) -> None:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale={list(self.scale)}; expected the lower number first")


class Crops(Dataset):
    """Random square crops, flipped and turned at random, each with a number of Gaussians.

    Item i of an epoch is the same in every run: it depends on the seed, the epoch and i alone, as
    long as the same images are whole; see `read_from`.

    Args:
        paths: images, each used once before any is used again.
        number: how many crops.
        side: of a crop in pixels; smaller images are continued by their reflection.
        k: lowest and highest number of Gaussians per 512x512 pixels; drawn log-uniformly.
        seed, epoch: of the random numbers.
        variety: what else crops are.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        number: int,
        side: int,
        k: Sequence[float],
        seed: int,
        epoch: int = 0,
        variety: Variety = Variety(),
    ) -> None:
        self.paths, self.number, self.side, self.seed, self.epoch = paths, number, side, seed, epoch
        self.k = [math.log(count * side * side / AREA) for count in k]
        self.variety = variety

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return an image in [0, 1] and its number of Gaussians. [3, side, side]"""
        rng = np.random.default_rng([self.seed, self.epoch, index])
        low, high = self.k
        k = max(1, round(math.exp(rng.uniform(low, high))))
        if rng.random() < self.variety.synthetic:
            return synthetic.picture(self.side, rng), k
        lap, place = divmod(self.epoch * self.number + index, len(self.paths))
        order = np.random.default_rng([self.seed, lap]).permutation(len(self.paths))
        image = read_from(self.paths, int(order[place]))
        low, high = (math.log(factor) for factor in self.variety.scale)
        image = scaled(image, math.exp(rng.uniform(low, high)))
        image = cropped(reflected(image, self.side), self.side, rng)
        if rng.random() < self.variety.color:
            image = recolored(image, rng)
        return turned(image, int(rng.integers(8))).contiguous(), k


def read_from(paths: Sequence[Path], index: int) -> Tensor:
    """Read a picture as three channels; in place of a broken one the next that is whole.

    So a picture that proves broken when its pixels are decoded does not end a run, and the run is
    the same wherever it is resumed.

    Returns:
        Values in [0, 1]: grey repeated, transparency dropped. [3, H, W]

    Raises:
        ValueError: none of them can be read.
    """
    for step in range(len(paths)):
        path = paths[(index + step) % len(paths)]
        try:
            return as_rgb(files.read_image(path).permute(2, 0, 1)[None])[0]
        except ValueError as error:
            _say_once(str(error))
    raise ValueError(f"none of {len(paths)} images can be read any more, such as {paths[index]}")


@cache
def _say_once(reason: str) -> None:
    log.warning("an image is broken; the next one is used instead: %s", reason)


def reflected(image: Tensor, side: int) -> Tensor:
    """Continue an image by its reflection until both of its sides are so long. [..., H, W]

    A row 0 1 2 becomes 0 1 2 1 0 1 2.
    """
    for axis in (-2, -1):
        extent = image.shape[axis]
        if extent < side:
            cycle = torch.arange(side) % max(1, 2 * extent - 2)
            image = image.index_select(axis, torch.minimum(cycle, (2 * extent - 2 - cycle).abs()))
    return image


def cropped(image: Tensor, side: int, rng: np.random.Generator | None = None) -> Tensor:
    """Cut a square, or as much of it as there is, from the centre or a random place. [..., H, W]"""
    for axis in (-2, -1):
        extent = image.shape[axis]
        length = min(side, extent)
        start = int(rng.integers(extent - length + 1)) if rng else (extent - length) // 2
        image = image.narrow(axis, start, length)
    return image


def turned(image: Tensor, which: int) -> Tensor:
    """Return one of the eight flips and quarter turns of a square. [..., S, S]"""
    image = image.transpose(-1, -2) if which & 4 else image
    return image.flip([-1 - bit for bit in (0, 1) if which >> bit & 1])


def scaled(image: Tensor, factor: float) -> Tensor:
    """Return a picture at another size, without aliasing. [3, H, W] -> [3, H', W']"""
    if factor == 1:
        return image
    size = [max(1, round(extent * factor)) for extent in image.shape[1:]]
    grown = F.interpolate(image[None], size, mode="bicubic", antialias=True, align_corners=False)
    return grown[0].clamp(0, 1)


def recolored(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Change the colours of a picture at random: their order, saturation, contrast and gamma.

    Args:
        image: values in [0, 1]. [3, H, W]
        rng: decides how.

    Returns:
        Values in [0, 1]. [3, H, W]
    """
    image = image[torch.from_numpy(rng.permutation(3))]
    image = 1 - image if rng.random() < 0.25 else image
    grey = image.mean(0, keepdim=True)
    image = grey + (image - grey) * rng.choice([0, rng.uniform(0.3, 1), rng.uniform(1, 1.7)])
    image = image.clamp(0, 1) ** math.exp(rng.uniform(-0.5, 0.5))
    low, high = rng.uniform(0, 0.3), rng.uniform(0.7, 1)
    return low + (high - low) * image
