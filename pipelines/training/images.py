"""Photographs for training: finding them, and crops that depend on nothing but their number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from nets.unet import AREA
from pipelines.prior import as_rgb
from taichi2dgs import files, pictures

SUFFIXES = frozenset(pictures.ENDINGS)
HELD_OUT = 20  # one image in so many validates, if nothing else is there to


def find(data: str | Path, valid: str | Path | None = None) -> tuple[list[Path], list[Path]]:
    """Return the images to train on and those to validate on.

    Args:
        data: a folder, searched with all that is in it. Images in a folder that has "valid" in its
            name validate (DIV2K's DIV2K_valid_HR); if there is none, every twentieth image does.
        valid: a folder of images to validate on instead.

    Raises:
        ValueError: a folder has no images.
    """
    found = _images(data)
    is_held = ["valid" in path.parent.name.lower() for path in found]
    if valid is not None:
        held = _images(valid)
        return [path for path in found if path not in set(held)], held
    if not any(is_held) or all(is_held):
        is_held = [index % HELD_OUT == 0 for index in range(len(found))]
    train = [path for path, held in zip(found, is_held, strict=True) if not held]
    if not train:
        raise ValueError(f"--data {data}: {len(found)} image; expected two or more")
    return train, [path for path, held in zip(found, is_held, strict=True) if held]


def _images(folder: str | Path) -> list[Path]:
    found = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise ValueError(f"{folder}: no images there; expected {', '.join(sorted(SUFFIXES))}")
    return found


class Crops(Dataset):
    """Random square crops, flipped and turned at random, each with a number of Gaussians.

    Item i of an epoch is the same in every run: it depends on the seed, the epoch and i alone.

    Args:
        paths: images, each used once before any is used again.
        number: how many crops.
        side: of a crop in pixels; smaller images are continued by their reflection.
        k: lowest and highest number of Gaussians per 512x512 pixels; drawn log-uniformly.
        seed, epoch: of the random numbers.
    """

    def __init__(
        self, paths: Sequence[Path], number: int, side: int, k: Sequence[float], seed: int,
        epoch: int = 0,
    ) -> None:  # fmt: skip
        self.paths, self.number, self.side, self.seed, self.epoch = paths, number, side, seed, epoch
        self.k = [math.log(count * side * side / AREA) for count in k]

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return an image in [0, 1] and its number of Gaussians. [3, side, side]"""
        rng = np.random.default_rng([self.seed, self.epoch, index])
        lap, place = divmod(self.epoch * self.number + index, len(self.paths))
        order = np.random.default_rng([self.seed, lap]).permutation(len(self.paths))
        image = read_rgb(self.paths[order[place]])
        low, high = self.k
        k = max(1, round(math.exp(rng.uniform(low, high))))
        return turned(cropped(image, self.side, rng), int(rng.integers(8))).contiguous(), k


def read_rgb(path: Path) -> Tensor:
    """Read a picture as three channels: grey repeated, transparency dropped. [3, H, W]"""
    return as_rgb(files.read_image(path).permute(2, 0, 1)[None])[0]


def cropped(image: Tensor, side: int, rng: np.random.Generator | None = None) -> Tensor:
    """Cut a square from a random place, or from the centre. [3, H, W] -> [3, side, side]"""
    for axis in (1, 2):
        extent = image.shape[axis]
        if extent < side:  # 0 1 2 1 0 1 2 ...
            cycle = torch.arange(side) % max(1, 2 * extent - 2)
            image = image.index_select(axis, torch.minimum(cycle, (2 * extent - 2 - cycle).abs()))
            continue
        start = int(rng.integers(extent - side + 1)) if rng else (extent - side) // 2
        image = image.narrow(axis, start, side)
    return image


def turned(image: Tensor, which: int) -> Tensor:
    """Return one of the eight flips and quarter turns of a square. [..., S, S]"""
    image = image.transpose(-1, -2) if which & 4 else image
    return image.flip([-1 - bit for bit in (0, 1) if which >> bit & 1])
