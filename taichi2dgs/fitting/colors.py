"""The best colours for Gaussians whose places and shapes are settled: a linear problem."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from taichi2dgs import runtime
from taichi2dgs.checks import whole
from taichi2dgs.fitting.engine import Engine
from taichi2dgs.fitting.fit import checked_image
from taichi2dgs.fitting.options import FitOptions
from taichi2dgs.fitting.picture import Picture
from taichi2dgs.gaussians import Gaussians, check_gaussians
from taichi2dgs.kernels.binning import GEOMETRY
from taichi2dgs.order import morton_order
from taichi2dgs.settings import RenderSettings
from taichi2dgs.storage.weights import weight_of

LARGEST = 20.0  # of the logarithm of an area in squared pixels, either way
TINY = 1e-30  # what a squared length is at least, so that a solution stays one


def solve_colors(
    image: Any, gaussians: Gaussians, steps: int = 2, *, weight: Any = None
) -> Gaussians:
    """Bring colours to the least squared error, with all else as it is, by conjugate gradients.

    A render is a product A c: each pixel is a weighted mean of colours. Least squares ask for
    A^T A c = A^T t, or with the weights of pixels for A^T W A c = A^T W t. Residuals are divided by
    the areas of Gaussians, which are about in proportion to the diagonal of A^T A: so one step does
    most of it. Divided by the sums of weights, A^T 1,
    they would gain another 0.1 dB, for a step that finds these.

    Args:
        image: what `taichi2dgs.encode` takes: a path, a PIL image, or an array or tensor. [H, W, C]
        gaussians: their size and channels are those of the image.
        steps: of conjugate gradients; they take as long as one step more of a fit.
        weight: how much each pixel counts, see `taichi2dgs.fit`.

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
    check_gaussians(gaussians)
    target = checked_image(image, gaussians)
    weight = weight_of(image, weight, gaussians.size)
    steps = whole(steps, "steps", 0)
    if not steps or not len(gaussians):
        return gaussians
    return replace(gaussians, color=_solved(target, weight, gaussians, steps))


def _solved(target: Tensor, weight: Tensor | None, gaussians: Gaussians, steps: int) -> Tensor:
    """Return colours after some steps of preconditioned conjugate gradients. [N, C]"""
    params = gaussians.packed().detach().float().cpu()
    order = morton_order(params[:, :2], gaussians.size)
    params = params[order]
    pushes = _Pushes(target, weight, params, gaussians.settings)
    colors = params[:, GEOMETRY:]
    area = params[:, 2:4].sum(1, keepdim=True).clamp(-LARGEST, LARGEST).exp()
    residual = -pushes.of(colors, against_target=True)
    direction, length = torch.zeros_like(colors), torch.ones_like(colors[:1])
    for _ in range(steps):
        step = residual / area
        before, length = length, (residual * step).sum(0, keepdim=True)
        direction = step + direction * (length / before.clamp(min=TINY))
        moved = pushes.of(direction)
        share = length / (direction * moved).sum(0, keepdim=True).clamp(min=TINY)
        colors = colors + share * direction
        residual = residual - share * moved
    solved = torch.empty_like(colors)
    solved[order] = colors
    return solved.to(gaussians.color)


class _Pushes:
    """Renders colours and pushes the render back to them, by steps of a fit that move nothing.

    A step's gradient of half the squared error is A^T W (A c - t), and with a memory of 0 Adam's
    average of gradients is just that.
    """

    def __init__(
        self, target: Tensor, weight: Tensor | None, params: Tensor, settings: RenderSettings
    ) -> None:
        still = FitOptions(
            xy=0, log_scale=0, theta=0, color=0, beta1=0, beta2=0, respawn=0, settings=settings
        )
        self.params = params.numpy().copy()
        picture = Picture(target, params, weight=weight)
        self.engine = Engine([picture], still, measured=False)
        with runtime.launching(self.engine.work.owner):
            self.targets = {True: self.engine.target}
            self.targets[False] = self.engine.target_of([torch.zeros_like(target)])

    def of(self, colors: Tensor, against_target: bool = False) -> Tensor:
        """Return A^T W (A colors - t), where t is the target or 0. [N, C]"""
        engine = self.engine
        self.params[:, GEOMETRY:] = colors.numpy()
        with runtime.launching(engine.work.owner):
            engine.packed.from_numpy(self.params)
        engine.target = self.targets[against_target]
        engine.step(engine.done + 1, 1.0)
        while not engine.poll():
            engine.step(engine.done + 1, 1.0)
        with runtime.launching(engine.work.owner):
            return torch.from_numpy(engine.exp_avg.to_numpy()[:, GEOMETRY:])
