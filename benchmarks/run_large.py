"""Time and peak memory of encoding one large picture, a mosaic of photographs.

python benchmarks/run_large.py --data FOLDER --size 2160x3840 --k 400000 --steps 60
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from common import measure
from common.costs import peak_mib
from torch import Tensor

import taichi2dgs
from pipelines.commands.options import size
from pipelines.encoding import Encoding


@measure.script
def main() -> None:
    options = parse()
    taichi2dgs.init(options.backend)
    height, width = options.size
    image = mosaic(measure.find_pictures(options.data, None), height, width, options.side)
    print(f"{height}x{width}, image in memory: peak {peak_mib() / 1024:.2f} GiB", flush=True)
    seconds = time.perf_counter()
    result = Encoding(k=options.k, steps=options.steps, start=options.start).run(image)
    seconds = time.perf_counter() - seconds
    last = result.history[-1]
    print(
        f"{options.k} Gaussians, {options.start}: {last.step} steps in {last.seconds:.0f} s, "
        f"{seconds:.0f} s in all, {last.psnr:.2f} dB, peak {peak_mib() / 1024:.2f} GiB"
    )


def mosaic(paths: list[Path], height: int, width: int, side: int) -> Tensor:
    """Lay the photographs' top left squares side by side, again and again. [H, W, 3]"""
    squares = (taichi2dgs.read_image(path)[:side, :side] for path in paths)
    whole = [square for square in squares if square.shape == (side, side, 3)]
    if not whole:
        raise ValueError(f"no RGB pictures of {side}x{side} pixels")
    image = torch.empty(height, width, 3)
    corners = [(top, left) for top in range(0, height, side) for left in range(0, width, side)]
    for index, (top, left) in enumerate(corners):
        part = image[top : top + side, left : left + side]
        part.copy_(whole[index % len(whole)][: part.shape[0], : part.shape[1]])
    return image


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--size", type=size, default=(2160, 3840), help="HxW (2160x3840)")
    parser.add_argument("--side", type=int, default=512, help="of a photograph's square (512)")
    parser.add_argument("--k", type=int, default=400_000, help="Gaussians (400000)")
    parser.add_argument("--steps", type=int, default=60, help="of the fit (60)")
    parser.add_argument("--start", default="prior", help="start (prior)")
    parser.add_argument("--backend", help="cuda, vulkan, metal, opengl, cpu or auto")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
