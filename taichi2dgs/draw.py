"""Gaussians on the axes of matplotlib: ellipses, centres, where they are dense, and a fit's curve.

It needs matplotlib, which the extra `plot` brings.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from taichi2dgs.checks import number, shown
from taichi2dgs.gaussians import Gaussians, check_gaussians
from taichi2dgs.storage import pictures
from taichi2dgs.storage.maps import displayed
from taichi2dgs.storage.stacks import as_stack

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EDGE = "#00000055"
DIMMED = 0.3  # strength of an image behind outlines and dots, which are seen on the dark
MOST_CELLS = 256  # a side of a heatmap


def ellipses(
    gaussians: Gaussians,
    axes: Axes | None = None,
    *,
    image: Any = None,
    deviations: float = 1.0,
    filled: bool = False,
) -> Axes:
    """Draw every Gaussian as an ellipse of its colour, small ones over large ones.

    Args:
        gaussians: to draw, in the coordinates of their picture: x right, y down, in pixels.
        axes: to draw on; the current ones of pyplot if None.
        image: what is behind them, dimmed, of any kind that `taichi2dgs.encode` takes, if any.
        deviations: half-axes of an ellipse, in standard deviations.
        filled: fill them, not outline them.

    Returns:
        The axes.

    Raises:
        ValueError: an argument does not fit, or matplotlib is missing.

    >>> import matplotlib; matplotlib.use("agg")
    >>> import taichi2dgs as t2
    >>> g = t2.encode("sample:astronaut", k=500, steps=0, start="gradient")
    >>> bool(t2.draw.ellipses(g, filled=True).yaxis_inverted())
    True
    """
    if not 0 < number(deviations) < math.inf:
        raise ValueError(f"deviations={shown(deviations)}; expected a positive number")
    if not isinstance(filled, bool):
        raise ValueError(f"filled={shown(filled)}; expected True or False")
    axes = _prepared(gaussians, axes, image, DIMMED)
    from matplotlib.collections import EllipseCollection

    order = gaussians.log_scale.detach().sum(1).argsort(descending=True).cpu().numpy()
    axis = 2 * number(deviations) * gaussians.log_scale.detach().exp().cpu().numpy()[order]
    colors = _colors(gaussians)[order]
    style: dict[str, Any] = {"facecolors": colors, "edgecolors": EDGE, "linewidths": 0.3}
    if not filled:
        ink = _ink(colors, image is not None)
        style = {"facecolors": "none", "edgecolors": ink, "linewidths": 0.6}
    degrees = np.degrees(gaussians.theta.detach().cpu().numpy()[order])
    axes.add_collection(
        EllipseCollection(
            axis[:, 0], axis[:, 1], degrees, units="xy",
            offsets=gaussians.xy.detach().cpu().numpy()[order], offset_transform=axes.transData,
            **style,
        )
    )  # fmt: skip
    return axes


def centres(
    gaussians: Gaussians, axes: Axes | None = None, *, image: Any = None, size: float = 2.0
) -> Axes:
    """Draw the centre of every Gaussian as a dot.

    Args:
        gaussians: to draw, in the coordinates of their picture.
        axes: to draw on; the current ones of pyplot if None.
        image: what is behind them, dimmed, of any kind that `taichi2dgs.encode` takes, if any.
        size: of a dot, in points squared.

    Returns:
        The axes.

    Raises:
        ValueError: an argument does not fit, or matplotlib is missing.

    >>> import matplotlib; matplotlib.use("agg")
    >>> import taichi2dgs as t2
    >>> g = t2.encode("sample:astronaut", k=500, steps=0, start="gradient")
    >>> bool(t2.draw.centres(g, image="sample:astronaut").yaxis_inverted())
    True
    """
    if not 0 < number(size) < math.inf:
        raise ValueError(f"size={shown(size)}; expected a positive number of points squared")
    axes = _prepared(gaussians, axes, image, DIMMED)
    x, y = gaussians.xy.detach().cpu().numpy().T
    axes.scatter(x, y, number(size), c=_ink(_colors(gaussians), image is not None), linewidths=0)
    return axes


def heatmap(
    gaussians: Gaussians, axes: Axes | None = None, *, image: Any = None, strength: float = 0.7
) -> Axes:
    """Draw how dense centres are, over a picture: from dark, where none are, to bright.

    Args:
        gaussians: to draw, in the coordinates of their picture.
        axes: to draw on; the current ones of pyplot if None.
        image: what is behind it, of any kind that `taichi2dgs.encode` takes; None for nothing.
        strength: of the heatmap over the picture, above 0 and up to 1.

    Returns:
        The axes.

    Raises:
        ValueError: an argument does not fit, or matplotlib is missing.

    >>> import matplotlib; matplotlib.use("agg")
    >>> import taichi2dgs as t2
    >>> g = t2.encode("sample:astronaut", k=500, steps=0, start="gradient")
    >>> bool(t2.draw.heatmap(g, image="sample:astronaut").yaxis_inverted())
    True
    """
    if not 0 < number(strength) <= 1:
        raise ValueError(f"strength={shown(strength)}; expected 0 < strength <= 1")
    axes = _prepared(gaussians, axes, image)
    height, width = gaussians.size
    axes.imshow(
        density(gaussians).numpy(), cmap="inferno", alpha=number(strength),
        extent=(0, width, height, 0), interpolation="bilinear",
    )  # fmt: skip
    return axes


def curve(history: Sequence[Any], axes: Axes | None = None) -> Axes:
    """Draw the PSNR of a fit's reports against its seconds; see `FitResult.plot`.

    Args:
        history: reports.
        axes: to draw on; the current ones of pyplot if None.

    Returns:
        The axes.

    Raises:
        ValueError: matplotlib is missing, or these are no axes.
    """
    axes = _checked(axes)
    axes.plot([report.seconds for report in history], [report.psnr for report in history])
    axes.set(xlabel="seconds", ylabel="PSNR in dB")
    return axes


def density(gaussians: Gaussians) -> Tensor:
    """Return the logarithm of 1 and the number of centres around each cell, smoothed. [h, w]"""
    height, width = gaussians.size
    spacing = math.sqrt(height * width / max(len(gaussians), 1))
    side = max(1.0, max(height, width) / MOST_CELLS, 1.5 * spacing)
    across, down = math.ceil(width / side), math.ceil(height / side)
    column, row = (gaussians.xy.detach().cpu() / side).floor().long().unbind(1)
    inside = (column >= 0) & (row >= 0) & (column < across) & (row < down)
    cells = (row * across + column)[inside]
    counts = torch.bincount(cells, minlength=across * down).reshape(1, 1, down, across).float()
    for _ in range(2):
        counts = torch.nn.functional.avg_pool2d(counts, 3, 1, 1, count_include_pad=False)
    return counts[0, 0].log1p()


def _prepared(gaussians: Gaussians, axes: Axes | None, image: Any, strength: float = 1.0) -> Axes:
    """Return axes in the coordinates of a picture, with an image on them if there is one."""
    check_gaussians(gaussians)
    axes = _checked(axes)
    height, width = gaussians.size
    if image is not None:
        stack = as_stack(image)
        whole = displayed(stack.image, stack.maps)
        if tuple(whole.shape[:2]) != gaussians.size:
            raise ValueError(
                f"image has shape {list(whole.shape)}; expected {[*gaussians.size, 'C']}"
            )
        pixels = np.asarray(pictures.encoded(whole, "PNG")[0].convert("RGBA")) / 255
        if strength < 1:
            pixels = strength * pixels[..., :3] * pixels[..., 3:]
        axes.imshow(pixels, extent=(0, width, height, 0))
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    return axes


def check_matplotlib() -> None:
    """Raise ValueError if matplotlib is missing."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("axes: drawing needs matplotlib; install the extra, taichi2dgs[plot]")


def _checked(axes: Axes | None) -> Axes:
    """Return axes of matplotlib, or raise ValueError."""
    check_matplotlib()
    from matplotlib.axes import Axes

    if axes is None:
        from matplotlib import pyplot

        return pyplot.gca()
    if not isinstance(axes, Axes):
        raise ValueError(f"axes={shown(axes)}; expected axes of matplotlib, or None")
    return axes


def _ink(colors: np.ndarray, on_dark: bool) -> np.ndarray:
    """Return colours that can be told from a dark ground, or from a white one. [N, 3]"""
    bright = (colors @ [0.299, 0.587, 0.114])[:, None]
    return colors + (1 - colors) * 0.6 * (1 - bright) if on_dark else colors * (1 - 0.5 * bright)


def _colors(gaussians: Gaussians) -> np.ndarray:
    """Return colours that can be drawn: RGB in [0, 1], not multiplied by opacity. [N, 3]"""
    color = displayed(gaussians.color.detach().cpu().double(), gaussians.maps)
    if color.shape[1] in (2, 4):
        color = color[:, :-1] / color[:, -1:].clamp(min=1e-3)
    shown_ones = color[:, :3] if color.shape[1] > 2 else color[:, :1].expand(-1, 3)
    return shown_ones.clamp(0, 1).numpy()
