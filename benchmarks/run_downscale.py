"""Renders below a picture's size, with and without averaging, against the averaged full render.

python benchmarks/run_downscale.py --data KODAK
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

import torch
from common import costs, kodak, measure
from torch import Tensor
from tqdm import tqdm

import pipelines
import taichi2dgs
from taichi2dgs import metrics, runtime
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.storage import files

PITCHES = ((4 / 3, 4 / 3), (2, 2), (4, 4), (8, 8), (1, 4))  # picture pixels per output pixel, y, x


@measure.script
def main() -> None:
    options = parse()
    taichi2dgs.init(options.backend)
    folder = options.data or kodak.fetch(options.images or 24)
    rows: dict[tuple[float, float], list[list[float]]] = {pitch: [] for pitch in PITCHES}
    for path in tqdm(measure.find_pictures(folder, options.images), unit="picture"):
        image = measure.centre_crop(files.read_image(path), options.side)
        image = image.to(runtime.device())
        start = pipelines.initialize(image, options.k)
        fitted = taichi2dgs.fit(image, start, steps=options.steps).gaussians
        full = fitted.render()
        for pitch, row in rows.items():
            row.append(compared(fitted, full, pitch))
    about = f"{options.side}x{options.side} centre crops, {options.k} Gaussians"
    page = as_markdown(measure.describe(about, [folder]), rows)
    options.out.write_text(page)
    print(page)


def compared(gaussians: Gaussians, full: Tensor, pitch: tuple[float, float]) -> list[float]:
    """PSNR in dB with averaging and without, then milliseconds of either and of the full render."""
    size = (round(full.shape[0] / pitch[0]), round(full.shape[1] / pitch[1]))
    truth = box_average(full, size).clamp(0, 1)
    renders = [lambda: gaussians.render(size), lambda: gaussians.render(size, antialias=False)]
    quality = [metrics.psnr(render(), truth) for render in renders]
    return quality + [
        1000 * costs.seconds_of(work, wait=measure.wait) for work in (*renders, gaussians.render)
    ]


def box_average(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the exact mean of an image over each pixel of a smaller grid. [H, W, C]"""
    rows, columns = (
        overlaps(full, small).to(image.device)
        for full, small in zip(image.shape, size, strict=False)
    )
    return torch.einsum("yh,hwc,xw->yxc", rows, image.double(), columns).float()


def overlaps(full: int, small: int) -> Tensor:
    """Share of each of `full` equal cells in each of `small` ones. [small, full]"""
    edges = torch.arange(small + 1).double() * full / small
    cells = torch.arange(full).double()
    low = torch.maximum(edges[:-1, None], cells)
    high = torch.minimum(edges[1:, None], cells + 1)
    return (high - low).clamp(min=0) * small / full


def as_markdown(run: dict, rows: dict) -> str:
    lines = [
        f"{run['pictures']}: mean PSNR in dB of smaller renders against the full render, averaged",
        "over each pixel; medians of milliseconds.",
        "",
        f"- machine: {run['machine']}; backend {run['backend']}; commit {run['commit']}",
        f"- `{run['command']}`",
        "",
        "| pixels per pixel | averaged (default) | sampled | ms | ms sampled | ms full |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for (y, x), row in rows.items():
        values = list(zip(*row, strict=True))
        quality = " | ".join(f"{statistics.mean(part):.2f}" for part in values[:2])
        times = " | ".join(f"{statistics.median(part):.0f}" for part in values[2:])
        lines.append(f"| {y:.3g} x {x:.3g} | {quality} | {times} |")
    return "\n".join(lines) + "\n"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of pictures (Kodak, downloaded)")
    parser.add_argument("--side", type=int, default=512, help="of the centre crop (512)")
    parser.add_argument("--k", type=int, default=50_000, help="Gaussians (50000)")
    parser.add_argument("--steps", type=int, default=50, help="of each fit (50)")
    parser.add_argument("--images", type=int, help="how many, from the first (all)")
    parser.add_argument("--backend", help="cuda, vulkan, metal, opengl, cpu or auto")
    out = measure.RESULTS / "downscale.md"
    parser.add_argument("--out", type=Path, default=out, help="(results/downscale.md)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
