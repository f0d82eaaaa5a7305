"""The best colours for Gaussians whose places and shapes are settled: a linear problem."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from taichi2dgs.checks import whole
from taichi2dgs.fitting.fit import checked_image
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.rendering.autograd import render_packed
from taichi2dgs.rendering.view import View

LEAST = 1e-3  # sum of weights, below which a Gaussian is next to invisible
TINY = 1e-30  # what a squared length is at least, so that a solution stays one


def solve_colors(image: Any, gaussians: Gaussians, steps: int = 2) -> Gaussians:
    """Bring colours to the least squared error, with all else as it is, by conjugate gradients.

    A render is a product A c: each pixel is a weighted mean of colours. Least squares ask for
    A^T A c = A^T t. Steps are measured in units of A^T 1, how much of the picture each Gaussian is:
    so one step does most of it, and three are within 0.1 dB of the end.

    Args:
        image: what `taichi2dgs.encode` takes: a path, a PIL image, or an array or tensor. [H, W, C]
        gaussians: their size and channels are those of the image.
        steps: of conjugate gradients; a step takes about as long as one of a fit.

    Returns:
        Gaussians that differ in their colours alone.

    Raises:
        ValueError: an argument does not fit.

    >>> import pipelines
    >>> image = torch.rand(16, 24, 3)
    >>> start = pipelines.initialize(image, 40, "random")
    >>> better = solve_colors(image, start)
    >>> bool((better.render() - image).norm() < (start.render() - image).norm())
    True
    """
    target = checked_image(image, gaussians)
    steps = whole(steps, "steps", 0)
    if not steps or not len(gaussians):
        return gaussians
    return replace(gaussians, color=_solved(target, gaussians, steps))


def _solved(target: Tensor, gaussians: Gaussians, steps: int) -> Tensor:
    """Return colours after some steps of preconditioned conjugate gradients. [N, C]"""
    shape = gaussians.packed().detach()[:, :5]
    view = View.of(gaussians.size, None, None)

    def pushed(colors: Tensor, back: Any) -> Tensor:
        """Return A^T back(A colors). [N, C]"""
        with torch.enable_grad():
            params = torch.cat([shape, colors], 1).requires_grad_()
            out = render_packed(params, view, gaussians.settings)
            (pushed,) = torch.autograd.grad(out, params, back(out.detach()))
        return pushed[:, 5:]

    colors = gaussians.color.detach()
    weight = pushed(colors, torch.ones_like).clamp(min=LEAST)
    residual = pushed(colors, lambda out: target.to(out) - out)
    direction, length = torch.zeros_like(colors), torch.ones_like(colors[:1])
    for _ in range(steps):
        step = residual / weight
        before, length = length, (residual * step).sum(0, keepdim=True)
        direction = step + direction * (length / before.clamp(min=TINY))
        moved = pushed(direction, lambda out: out)
        share = length / (direction * moved).sum(0, keepdim=True).clamp(min=TINY)
        colors = colors + share * direction
        residual = residual - share * moved
    return colors
