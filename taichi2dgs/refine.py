"""Fitting on while parameters are being rounded, so that the others make up for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from taichi2dgs.fit import FitOptions, fit
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.quantise import Precision, quantise

# What is rounded before each part of the steps, in columns of packed parameters, and the learning
# rates of what is still free. What is rounded last, the colours, nothing makes up for.
CENTRES, GEOMETRY = 2, 5
RATE = 0.3  # of those of a fit, which has ended at 0


def refine(
    gaussians: Gaussians, image: Tensor | np.ndarray, precision: Precision, steps: int
) -> Gaussians:
    """Return Gaussians that lose less to rounding: a few steps of the fit, most of it rounded.

    Centres are rounded and the rest is fitted for half the steps; then scales and angles are
    rounded, and the colours are fitted for the other half.

    Args:
        gaussians: of the image.
        image: values in [0, 1]. [H, W, C]
        precision: to which they will be rounded.
        steps: of the fit, in all.

    Raises:
        ValueError: the image does not fit the Gaussians, or steps is not a whole number.
    """
    options = FitOptions(settings=gaussians.settings)
    rates = {name: RATE * getattr(options, name) for name in ("log_scale", "theta", "color")}
    free = replace(options, xy=0.0, **rates)
    first = rounded(gaussians, precision, CENTRES)
    first = fit(image, first, steps=steps // 2, options=free).gaussians
    second = rounded(first, precision, GEOMETRY)
    frozen = replace(free, log_scale=0.0, theta=0.0)
    return fit(image, second, steps=steps - steps // 2, options=frozen).gaussians


def rounded(gaussians: Gaussians, precision: Precision, columns: int) -> Gaussians:
    """Return Gaussians, of which the first columns of their parameters are rounded."""
    params = gaussians.packed().detach()
    cells = quantise(params.cpu().float().numpy(), gaussians.size, precision)
    grid = torch.from_numpy(cells.params()).to(params)
    mixed = torch.cat([grid[:, :columns], params[:, columns:]], dim=1)
    return Gaussians.from_packed(mixed, gaussians.size, gaussians.settings)
