"""The picture at the top of the README: a photograph, its Gaussians as ellipses, the render."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from torch import Tensor

from pipelines.starts.named import initialize
from taichi2dgs import metrics
from taichi2dgs.fitting.fit import fit
from taichi2dgs.gaussians import Gaussians

SIDE = 4.0  # inches of a panel
EDGE = "#00000055"


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
    draw_ellipses(axes[1], gaussians)
    axes[2].imshow(render.clamp(0, 1).numpy(), extent=(0, width, height, 0))
    return figure


def draw_ellipses(axis: Axes, gaussians: Gaussians) -> None:
    """Draw every Gaussian as its ellipse at one standard deviation, small ones over large ones."""
    order = gaussians.log_scale.sum(1).argsort(descending=True).numpy()
    scale = gaussians.log_scale.exp().numpy()[order]
    height, width = gaussians.size
    axis.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    axis.add_collection(
        EllipseCollection(
            2 * scale[:, 0],
            2 * scale[:, 1],
            gaussians.theta.numpy()[order] * (180 / math.pi),
            units="xy",
            offsets=gaussians.xy.numpy()[order],
            offset_transform=axis.transData,
            facecolors=np.clip(gaussians.color.numpy()[order], 0, 1),
            edgecolors=EDGE,
            linewidths=0.3,
        )
    )
