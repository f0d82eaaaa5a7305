"""The picture at the top of the README: a photograph, its Gaussians as ellipses, the render."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from pipelines.starts.named import initialize
from taichi2dgs import draw, metrics
from taichi2dgs.fitting.fit import fit

SIDE = 4.0  # inches of a panel


def draw_hero(image: Tensor, k: int, steps: int) -> Figure:
    """Fit k Gaussians to a picture, and draw it, them and their render side by side.

    Args:
        image: [H, W, 3]
        k: number of Gaussians; a few thousand can be told apart.
        steps: iterations of the fit.
    """
    gaussians = fit(image, initialize(image, k), steps=steps).gaussians
    render = gaussians.render()
    titles = ("photograph", f"{k:,} Gaussians", f"render, {metrics.psnr(render, image):.1f} dB")
    height, width = image.shape[:2]
    size = (3 * SIDE * width / height, SIDE + 0.3)
    figure, axes = plt.subplots(1, 3, figsize=size, layout="constrained")
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=13)
        axis.axis("off")
    axes[0].imshow(image.numpy(), extent=(0, width, height, 0))
    draw.ellipses(gaussians, axes[1], filled=True)
    axes[2].imshow(render.clamp(0, 1).numpy(), extent=(0, width, height, 0))
    return figure
