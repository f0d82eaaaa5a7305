"""Renders that are smaller than the picture: every Gaussian averaged over the pixel that shows it.

An output pixel is a box of `pitch` picture pixels. A render at the picture's own size samples at
points, so what is missing is the spread of those points in the box: a variance of
(pitch^2 - 1) / 12 along x and along y. It is added to each covariance, and the peak falls as the
Gaussian's area grows, so that it keeps its integral. The normalised blend then divides averaged
colours by averaged weights, of all Gaussians: top_k is right for pixels that few Gaussians share.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from taichi2dgs.kernels.binning import MAX_LOG_SCALE
from taichi2dgs.settings import RenderSettings


def spread(pitch: float) -> float:
    """Return the variance, in picture pixels, that a pixel of some pitch adds along its axis."""
    return max(0.0, pitch * pitch - 1) / 12


def widened(params: Tensor, x: float, y: float) -> Tensor:
    """Return Gaussians with variances added along x and y, each with its integral kept.

    The shape of the result is Cholesky's, which has no case of its own for round Gaussians, in
    value or in gradient. Its determinant is a sum of positive terms: nothing cancels.

    Args:
        params: as `Gaussians.packed` has them. [N, 5 + C]
        x, y: variances of 0 or more.

    Returns:
        Centre, the elements (l0, l1, l2) of the Cholesky factor, colour times the fall of the
        peak, and that fall. [N, 5 + C + 1]
    """
    cos, sin = params[:, 4].cos(), params[:, 4].sin()
    s0, s1 = params[:, 2:4].clamp(-MAX_LOG_SCALE, MAX_LOG_SCALE).exp().unbind(1)
    v0, v1 = s0 * s0, s1 * s1
    xx = cos * cos * v0 + sin * sin * v1
    yy = sin * sin * v0 + cos * cos * v1
    xy = cos * sin * (v0 - v1)
    l0 = (xx + x).sqrt()
    # This is the square root of the determinant over l0^2, of which neither is formed: no overflow.
    l2 = ((s0 / l0 * s1).square() + x / (xx + x) * yy + y).sqrt()
    fall = s0 / l0 * (s1 / l2)
    shape = torch.stack([l0, xy / l0, l2], 1)
    return torch.cat([params[:, :2], shape, params[:, 5:] * fall[:, None], fall[:, None]], 1)


def summed(settings: RenderSettings) -> RenderSettings:
    """Return the settings that sum up what `widened` returns."""
    return replace(settings, blend="sum")


def blended(sums: Tensor, settings: RenderSettings) -> Tensor:
    """Return the colours of a sum of colours and weights. [H, W, C + 1] -> [H, W, C]"""
    color, weight = sums[..., :-1], sums[..., -1:]
    return color / (weight + settings.eps) if settings.blend == "normalized" else color
