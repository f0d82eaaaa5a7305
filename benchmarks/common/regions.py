"""Figures that look closely: a region of a picture in several fits, and each fit's error."""

from __future__ import annotations

import statistics

import torch
import torch.nn.functional as F  # noqa: N812
from matplotlib.figure import Figure
from torch import Tensor

from common.panels import Panel, grid, measured
from nets.detail import gradient_magnitude
from pipelines import baselines

Region = tuple[int, int, int, int]  # (top, left, height, width)


def draw_fits(
    image: Tensor, fits: list[tuple[str, int, str]], steps: int, region: Region
) -> Figure:
    """Draw a region of the picture and of each fit, and below them the picture and the errors.

    Args:
        image: [H, W, C]
        fits: (title, number of Gaussians, method) of each.
        steps: iterations of each.
        region: of the picture.
    """
    renders = []
    for title, k, method in fits:
        result = baselines.run(image, k, baselines.load(method), steps=steps)
        renders.append((title, result.gaussians.render()))
    counts = {k for _, k, _ in fits}
    same = f"{counts.pop():,} Gaussians, " if len(counts) == 1 else ""
    return compare(image, renders, region, f"{same}{steps} iterations")


def compare(image: Tensor, renders: list[tuple[str, Tensor]], region: Region, about: str) -> Figure:
    """Lay out the figure of `draw_fits`; `about` is the title of the whole picture."""
    y, x, height, width = region

    def part(pixels: Tensor) -> Tensor:
        return pixels[y : y + height, x : x + width]

    errors = [(render.clamp(0, 1) - image).abs().mean(-1) for _, render in renders]
    top = statistics.median(float(torch.quantile(part(error), 0.995)) for error in errors)
    crops = [Panel(measured(title, render, image), part(render)) for title, render in renders]
    maps = [Panel(f"error, 0 to {top:.3f}", part(error), top) for error in errors]
    first, whole = Panel("picture, region", part(image)), Panel(about, image, None, region)
    return grid([first, *crops, whole, *maps], len(renders) + 1)


def checked(region: list[int], image: Tensor) -> Region:
    """Return a region, or raise ValueError where it is not one of the image."""
    y, x, height, width = region
    rows, columns = image.shape[:2]
    if min(y, x) < 0 or min(height, width) < 1 or y + height > rows or x + width > columns:
        given = " ".join(map(str, region))
        raise ValueError(f"--region {given}: expected a part of {rows} x {columns} pixels")
    return y, x, height, width


def busiest(image: Tensor) -> Region:
    """Return the square, a quarter of the shorter side wide, that holds the most detail."""
    side = max(1, min(image.shape[:2]) // 4)
    step = max(1, side // 4)
    detail = gradient_magnitude(image.permute(2, 0, 1)[None])
    sums = F.avg_pool2d(detail, side, step)[0, 0]
    row, column = divmod(int(sums.argmax()), sums.shape[1])
    return row * step, column * step, side, side
