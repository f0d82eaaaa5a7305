"""Shards of a data set: many pictures' Gaussians as arrays of one shape."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from taichi2dgs.gaussians import Gaussians
from taichi2dgs.order import morton_order

SHAPE = ("x", "y", "log_scale_0", "log_scale_1", "theta")
NONE = -1  # the label of a picture that is in no subfolder


@dataclass(frozen=True, eq=False)
class Shard:
    """Gaussians of many pictures, in the order of the data set.

    Args:
        about: what all pictures share, see `about`.
        index: place of each picture in the whole data set. int64 [N]
        names: path of each picture in its folder, with "/".
        labels: number of each picture's class; -1 for none. int32 [N]
        sizes: (height, width) of each picture in pixels. int32 [N, 2]
        psnr: in dB, of the Gaussians as they are here. float32 [N]
        params: what `rows` returns for each picture; of a file, read when indexed. [N][K, 5 + C]
    """

    about: dict[str, Any]
    index: np.ndarray
    names: list[str]
    labels: np.ndarray
    sizes: np.ndarray
    psnr: np.ndarray
    params: Any

    def __len__(self) -> int:
        return len(self.names)


def rows(gaussians: Gaussians, dtype: str) -> np.ndarray:
    """Return x, y, two log-scales, theta and colours of Gaussians, along a Z-shaped curve.

    The first axis is the longer one, and theta lies in [0, pi): each Gaussian has one row that
    stands for it. Numbers beyond float16 become its largest.

    Args:
        gaussians: of one picture.
        dtype: "float32" or "float16". [K, 5 + C]
    """
    g = gaussians.detach().to("cpu", torch.float32)
    g = g[morton_order(g.xy, g.size)]
    is_across = g.log_scale[:, 1] > g.log_scale[:, 0]
    theta = (g.theta + is_across * (math.pi / 2)).remainder(math.pi)
    theta = torch.where(theta >= math.pi, 0.0, theta)  # a little below 0, it is rounded up to pi
    long = g.log_scale.sort(dim=1, descending=True).values
    packed = g.replace(log_scale=long, theta=theta).packed().numpy()
    most = np.finfo(dtype).max
    return packed.clip(-most, most).astype(dtype)


def class_of(name: str) -> str:
    """Return the first subfolder of a path, "" if there is none."""
    return name.partition("/")[0] if "/" in name else ""


def labelled(names: list[str]) -> tuple[list[str], list[int]]:
    """Return the classes of pictures, in order, and the number of each picture's.

    >>> labelled(["cats/a.png", "dogs/deep/b.png", "c.png"])
    (['cats', 'dogs'], [0, 1, -1])
    """
    of = [class_of(name) for name in names]
    classes = sorted({one for one in of if one})
    numbers = {name: number for number, name in enumerate(classes)}
    return classes, [numbers.get(one, NONE) for one in of]


def about(gaussians: Gaussians, classes: list[str]) -> dict[str, Any]:
    """Return what all pictures of a data set share, for its files."""
    return {
        "version": 1,
        "columns": [*SHAPE, *(f"color_{c}" for c in range(gaussians.channels))],
        "colors": gaussians.maps[0].kind if gaussians.maps else "srgb",
        **asdict(gaussians.settings),
        "classes": classes,
    }
