"""What figures are made of: pictures and maps in a grid, saved as small WebP files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from taichi2dgs import metrics

DPI = 110


class Panel(NamedTuple):
    """One picture of a grid.

    Args:
        title: above it.
        pixels: a picture, or a map that gets colours. [H, W, 1 or 3] or [H, W]
        top: the value of a map of errors that gets the brightest colour; 0 then gets the darkest,
            and colours between go by square roots. If None, colours go evenly from the lowest value
            to the one that 0.5 % of the map exceed.
        frame: (top, left, height, width) of a rectangle drawn on it.
    """

    title: str
    pixels: Tensor
    top: float | None = None
    frame: tuple[int, int, int, int] | None = None


def measured(name: str, render: Tensor, image: Tensor) -> str:
    """Return a title that says how close a render is."""
    return f"{name}: {metrics.psnr(render, image):.2f} dB"


def grid(panels: list[Panel], columns: int) -> Figure:
    """Lay out panels, each with its title."""
    rows = -(-len(panels) // columns)
    size = (2.7 * columns, 2.9 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis, panel in zip(axes.flat, panels, strict=True):
        pixels = panel.pixels.detach().cpu().numpy().squeeze()
        if pixels.ndim == 2:
            if panel.top is None:
                norm = Normalize(pixels.min(), np.quantile(pixels, 0.995))
            else:
                norm = PowerNorm(0.5, 0, panel.top)
            axis.imshow(pixels, cmap="magma", norm=norm)
        else:
            axis.imshow(pixels.clip(0, 1))
        if panel.frame:
            y, x, height, width = panel.frame
            axis.add_patch(Rectangle((x, y), width, height, fill=False, color="white"))
        axis.set_title(panel.title, fontsize=8)
        axis.axis("off")
    return figure


def save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=DPI, pil_kwargs={"quality": 80})
    plt.close(figure)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")
