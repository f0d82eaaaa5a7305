"""Launch every kernel of taichi2dgs in every configuration, and ignore the results.

Usage: FAKECUDA_MODE=dump FAKECUDA_DIR=dumps FAKECUDA_LOG=log run.sh python launch_all.py [--few]

Called like that, it leaves the PTX of all modules in `dumps`, and says in the log which are whose.
"""

import argparse
import os
from collections.abc import Iterator

import torch

import taichi2dgs
from taichi2dgs import FitOptions, runtime
from taichi2dgs.fitting.engine import Engine
from taichi2dgs.fitting.picture import Picture
from taichi2dgs.neighbours import neighbour_distances
from taichi2dgs.rendering.passes import RenderPass
from taichi2dgs.rendering.view import View
from taichi2dgs.rendering.workspace import SHAPES
from taichi2dgs.settings import LOSSES, RenderSettings

BLENDS = ("normalized", "sum")
TOP_K = (1, 5, 16, 32, 64)  # the default, 10, is launched anyway
SIZE = (40, 40)
Configuration = tuple[int, str, int, torch.dtype, str]  # channels, blend, top_k, type, shape


def renders(few: bool) -> Iterator[Configuration]:
    """All kinds of renders, or only those of three channels."""
    for channels in (3,) if few else (1, 3, 4):
        for blend in BLENDS:
            for dtype in (torch.float32, torch.float64):
                yield from ((channels, blend, 10, dtype, shape) for shape in SHAPES)
    if not few:
        yield from ((3, "normalized", k, torch.float32, SHAPES[0]) for k in TOP_K)
        yield (16, "normalized", 10, torch.float32, SHAPES[0])


def fits(few: bool) -> Iterator[Configuration]:
    """All kinds of fits, or only the usual one."""
    blends = [(3, "normalized", 10)] if few else [(c, b, 10) for c in (1, 3, 4) for b in BLENDS]
    for channels, blend, k in blends + ([] if few else [(3, "normalized", k) for k in TOP_K]):
        yield channels, blend, k, torch.float32, SHAPES[0]


def packed(channels: int, dtype: torch.dtype, shape: str) -> torch.Tensor:
    """Parameters of 40 Gaussians. [N, 5 + C]"""
    params = torch.rand(40, 5 + channels, dtype=dtype)
    params[:, :2] *= SIZE[0]
    if shape == "cholesky":
        params[:, 2:5] += 1
    return params


def mark(text: str) -> None:
    """Print what is launched next, and write it to the driver's log."""
    print(text, flush=True)
    if path := os.environ.get("FAKECUDA_LOG"):
        with open(path, "a") as file:
            print("config", text, file=file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--few", action="store_true", help="only the usual configurations")
    few = parser.parse_args().few
    taichi2dgs.init()
    mark("counting")
    runtime.counts_right()
    for count in (3,) if few else (1, 3, 16):
        mark(f"neighbours count={count}")
        neighbour_distances(torch.rand(50, 2), count)
    for channels, blend, k, dtype, shape in renders(few):
        mark(f"render channels={channels} {blend} {str(dtype)[6:]} {shape} top_k={k}")
        settings = RenderSettings(blend=blend, top_k=k)
        launch = RenderPass(
            packed(channels, dtype, shape), View.of(SIZE, None, None), settings, shape
        )
        launch.backward(launch.forward())
    for channels, blend, k, dtype, shape in fits(few):
        mark(f"fit channels={channels} {blend} top_k={k}")
        options = FitOptions(settings=RenderSettings(blend=blend, top_k=k))
        Engine([Picture(torch.rand(*SIZE, channels), packed(channels, dtype, shape))], options)
    for loss in () if few else LOSSES:
        mark(f"fit channels=3 normalized top_k=10 {loss} weighted tile")
        options = FitOptions(settings=RenderSettings(tile=True), loss=loss)
        params, weight = packed(3, torch.float32, SHAPES[0]), torch.rand(*SIZE)
        Engine([Picture(torch.rand(*SIZE, 3), params, weight=weight)], options)


if __name__ == "__main__":
    main()
