"""Fits of halved pictures, enlarged: what --between gains there, and costs at their own size.

    python benchmarks/run_zoom.py --data KODAK

The centre of each picture is averaged to half its size and fitted; the render of twice that size is
measured against the centre itself, beside Lanczos' filter. Beside the page appear a figure of one
against the other, and a part of the first picture, enlarged fourfold by both.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any, NamedTuple

from common import kodak, measure, panels, regions, table
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

import pipelines
import taichi2dgs
from taichi2dgs import metrics
from taichi2dgs.fitting.between import enlarged
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.storage import files

SHARES = (0.0, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
PART = 64  # side of the part that is enlarged, in pixels of the halved picture
TIMES = 4  # as which it is shown


class Zoomed(NamedTuple):
    """What became of one picture: PSNR in dB, by share, and by Lanczos' filter."""

    own: list[float]
    twice: list[float]
    lanczos: float


@measure.script
def main() -> None:
    options = parse()
    taichi2dgs.init(options.backend)
    folder = options.data or kodak.fetch(options.images or 24)
    rows, shown = [], None
    for path in tqdm(measure.find_pictures(folder, options.images), unit="picture"):
        full = measure.centre_crop(files.read_image(path), options.side)
        row, fitted = measured(full, options)
        rows.append(row)
        shown = shown or drawn(full, fitted, options.shares)
    about = f"{options.side}x{options.side} centre crops, halved; {options.k} Gaussians"
    page = as_markdown(measure.describe(about, [folder]), rows, options.shares)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page)
    print(page)
    panels.save(curve(rows, options.shares), options.out.with_suffix(".webp"))
    if shown is not None:
        panels.save(shown, options.out.with_name(options.out.stem + "_4x.webp"))


def halved(full: Tensor) -> Tensor:
    """Average each square of 2x2 pixels. [2 H, 2 W, C] -> [H, W, C]"""
    height, width, channels = full.shape
    return full.reshape(height // 2, 2, width // 2, 2, channels).mean((1, 3)).contiguous()


def lanczos(image: Tensor, times: int) -> Tensor:
    """Enlarge a picture by Lanczos' filter, as it is shown. [H, W, C] -> [tH, tW, C]"""
    return enlarged(image, times).clamp(0, 1)


def measured(full: Tensor, options: argparse.Namespace) -> tuple[Zoomed, list[Gaussians]]:
    """Fit the half of a picture with each share."""
    image = halved(full)
    start = pipelines.initialize(image, options.k)
    fitted = []
    for share in options.shares:
        fit_options = taichi2dgs.FitOptions(between=share)
        result = taichi2dgs.fit(image, start, steps=options.steps, options=fit_options)
        fitted.append(result.gaussians)
    own = [metrics.psnr(g.render(), image) for g in fitted]
    twice = [metrics.psnr(g.render(scale=2), full) for g in fitted]
    return Zoomed(own, twice, metrics.psnr(lanczos(image, 2), full)), fitted


def drawn(full: Tensor, fitted: list[Gaussians], shares: list[float]) -> Figure:
    """The busiest part of a picture, enlarged by Lanczos' filter, without --between and with it."""
    image = halved(full)
    height, width, _ = image.shape
    side = min(PART, height, width)
    top, left = regions.busiest(image)[:2]
    top, left = min(top, height - side), min(left, width - side)
    crop = (TIMES * top, TIMES * left, TIMES * side, TIMES * side)
    size = (TIMES * height, TIMES * width)
    parts = [("Lanczos", lanczos(image, TIMES)[crop[0] :, crop[1] :][: crop[2], : crop[3]])]
    middle = len(shares) // 2
    for index in (0, middle):
        render = fitted[index].render(size=size, crop=crop).clamp(0, 1)
        parts.append((f"--between {shares[index]:g}", render))
    return panels.grid([panels.Panel(name, part) for name, part in parts], len(parts))


def curve(rows: list[Zoomed], shares: list[float]) -> Figure:
    """PSNR at twice the size, less Lanczos', against that at the picture's own size."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.add_subplot()
    own, gain = means(rows)
    axis.plot(own, gain, marker="o", color="#c2410c")
    for share, x, y in zip(shares, own, gain, strict=True):
        axis.annotate(f"{share:g}", (x, y), textcoords="offset points", xytext=(6, 4))
    axis.axhline(0, color="#9ca3af", linewidth=1)
    axis.set(xlabel="PSNR in dB at its own size", ylabel="dB above Lanczos at twice the size")
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title("Share of steps that look between the pixels")
    return figure


def means(rows: list[Zoomed]) -> tuple[list[float], list[float]]:
    """Mean PSNR at the own size, and mean gain over Lanczos at twice it, by share."""
    own = [statistics.mean(values) for values in zip(*(row.own for row in rows), strict=True)]
    gains = [[value - row.lanczos for value in row.twice] for row in rows]
    return own, [statistics.mean(values) for values in zip(*gains, strict=True)]


def as_markdown(run: dict[str, Any], rows: list[Zoomed], shares: list[float]) -> str:
    """Return a page: how it was measured, and a line for each share."""
    filtered = statistics.mean(row.lanczos for row in rows)
    lines = [["share", "own size", "twice the size", "less Lanczos"]]
    for share, own, gain in zip(shares, *means(rows), strict=True):
        lines.append([f"{share:g}", f"{own:.2f}", f"{filtered + gain:.2f}", f"{gain:+.2f}"])
    return (
        f"{run['pictures']}: mean PSNR in dB of renders at the halved pictures' own size, and at\n"
        f"twice that against the originals, where Lanczos' filter has {filtered:.2f} dB.\n\n"
        f"{table.about_run(run)}\n\n{table.pipes(lines)}\n"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of pictures (Kodak, downloaded)")
    parser.add_argument("--side", type=int, default=512, help="of the centre, an even number (512)")
    parser.add_argument("--k", type=int, default=12_500, help="Gaussians (12500)")
    parser.add_argument("--steps", type=int, default=200, help="of each fit (200)")
    parser.add_argument("--shares", type=float, nargs="+", default=list(SHARES), metavar="SHARE",
                        help=f"({' '.join(map(str, SHARES))})")  # fmt: skip
    parser.add_argument("--images", type=int, help="how many, from the first (all)")
    parser.add_argument("--backend", help="cuda, vulkan, metal, opengl, cpu or auto")
    out = measure.RESULTS / "zoom.md"
    parser.add_argument("--out", type=Path, default=out, help="(results/zoom.md)")
    options = parser.parse_args()
    if options.side % 2:
        raise ValueError(f"--side {options.side}; expected an even number")
    return options


if __name__ == "__main__":
    sys.exit(main())
