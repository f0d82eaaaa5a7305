"""Textures fitted as they wrap around, and as they do not: errors at the edges, and seams.

    python benchmarks/run_tiles.py --data FOLDER

The textures are crops of pictures, of which the part that does not wrap around is taken away: their
periodic component, by L. Moisan, "Periodic plus smooth image decomposition" (2011). Draws the
corner where four copies of a texture meet, four times as large: the texture, by Lanczos'
filter, and a fit with and without.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from common import measure
from torch import Tensor

import pipelines
import taichi2dgs
from taichi2dgs import FitOptions, RenderSettings, metrics
from taichi2dgs.fitting import between

EDGE = 2  # pixels to either side of where two copies meet
TIMES = 4  # as large as it is, in which seams are looked for


@measure.script
def main() -> None:
    options = parse()
    taichi2dgs.init(options.backend)
    paths = measure.spread_pictures(options.data, options.images)
    images = [periodic(crop(path, options.side)) for path in paths]
    rows, shown = [], []
    for tile in (True, False):
        measured, panels = zip(*(fitted(one, tile, options) for one in images), strict=True)
        edge, inside, seam, seconds = np.mean(measured, 0)
        name = "with `--tile`" if tile else "without"
        psnrs, time_of_step = f"{edge:.2f} dB | {inside:.2f} dB", f"{1000 * seconds:.1f} ms"
        rows.append(f"| {name} | {psnrs} | {seam:.2f} | {time_of_step} |")
        shown.append(torch.cat([corner(one) for one in panels], 0))
    grown = [enlarged(one) for one in images]
    rows.insert(0, f"| the textures, by Lanczos | | | {np.mean([*map(seam_of, grown)]):.2f} | |")
    shown.insert(0, torch.cat([corner(one) for one in grown], 0))
    about = f"{len(images)} textures of {options.side}x{options.side} pixels, "
    about += f"{options.k:,} Gaussians, {options.steps} iterations"
    page = as_markdown(measure.describe(about, []), rows)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page)
    taichi2dgs.write_image(options.out.with_suffix(".webp"), torch.cat(shown, 1).clamp(0, 1))
    print(page)


def crop(path: Path, side: int) -> Tensor:
    return measure.centre_crop(taichi2dgs.read_image(path), side)[..., :3].contiguous()


def periodic(image: Tensor) -> Tensor:
    """Return the periodic component of a picture, whose edges meet. [H, W, C]"""
    whole = image.double().numpy()
    height, width = whole.shape[:2]
    jumps = np.zeros_like(whole)
    jumps[0] += whole[0] - whole[-1]
    jumps[-1] -= whole[0] - whole[-1]
    jumps[:, 0] += whole[:, 0] - whole[:, -1]
    jumps[:, -1] -= whole[:, 0] - whole[:, -1]
    y, x = (2 * np.pi * np.arange(side) / side for side in (height, width))
    divisor = (2 * np.cos(y)[:, None] + 2 * np.cos(x) - 4)[..., None]
    divisor[0, 0] = 1
    smooth = np.fft.fft2(jumps, axes=(0, 1)) / divisor
    smooth[0, 0] = 0
    found = whole + np.fft.ifft2(smooth, axes=(0, 1)).real
    return torch.from_numpy(found.clip(0, 1)).float()


def fitted(image: Tensor, tile: bool, options: argparse.Namespace) -> tuple[list[float], Tensor]:
    """Return the PSNR of edges and of the rest, the seam, and seconds a step; and the render.

    The seam is how far neighbours differ across the edges, as a multiple of the same inside, in
    the render that is enlarged.
    """
    start = pipelines.initialize(image, options.k, "gradient")
    choice = FitOptions(settings=RenderSettings(tile=tile))
    taichi2dgs.fit(image, start, steps=2, options=choice)  # compiles
    began = time.perf_counter()
    result = taichi2dgs.fit(image, start, steps=options.steps, options=choice)
    seconds = (time.perf_counter() - began) / options.steps
    render = result.gaussians.render()
    edge = torch.ones(image.shape[:2])
    edge[EDGE:-EDGE, EDGE:-EDGE] = 0
    found = [metrics.psnr(render, image, weight=weight) for weight in (edge, 1 - edge)]
    large = result.gaussians.render(scale=TIMES)
    return [*found, seam_of(large), seconds], large


def seam_of(image: Tensor) -> float:
    steps = [(image - image.roll(1, axis)).square() for axis in (0, 1)]
    across = torch.cat([steps[0][0], steps[1][:, 0]]).mean()
    inside = torch.cat([steps[0][1:].flatten(0, 1), steps[1][:, 1:].flatten(0, 1)]).mean()
    return float((across / inside).sqrt())


def enlarged(image: Tensor) -> Tensor:
    """Return a texture enlarged by Lanczos' filter as it wraps around."""
    around = image.repeat(3, 3, 1)
    return measure.centre_crop(between.enlarged(around, TIMES), TIMES * image.shape[0])


def corner(image: Tensor, side: int = 256) -> Tensor:
    """Return the middle of 2x2 copies of a texture."""
    rolled = image.roll((image.shape[0] // 2, image.shape[1] // 2), (0, 1))
    return measure.centre_crop(rolled, side)


def as_markdown(run: dict, rows: list[str]) -> str:
    lines = [
        f"{run['pictures']}: PSNR within {EDGE} pixels of an edge, and of the rest.",
        f"Seam: the mean step between neighbours across the edges, by that inside, {TIMES} times",
        "as large.",
        "",
        f"- machine: {run['machine']}; backend {run['backend']}; commit {run['commit']}",
        f"- `{run['command']}`",
        "",
        "| fit | edges | inside | seam | a step |",
        "| --- | --- | --- | --- | --- |",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--images", type=int, default=4, help="that are taken (4)")
    parser.add_argument("--side", type=int, default=200, help="of a texture, in pixels (200)")
    parser.add_argument("--k", type=int, default=1500, help="number of Gaussians (1500)")
    parser.add_argument("--steps", type=int, default=150, help="of each fit (150)")
    parser.add_argument("--backend", help="cuda, vulkan, metal, opengl, cpu or auto")
    out = measure.RESULTS / "tiles.md"
    parser.add_argument("--out", type=Path, default=out, help="(results/tiles.md)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
