"""What optimisers move: the parameterisations of the peers, to and from Gaussians.

Each is a mapping of named leaves. All start from Gaussians, so that every start goes with every
parameterisation, and end as packed parameters that the one renderer takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from taichi2dgs.edit import rotation
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.rendering.workspace import SHAPES
from taichi2dgs.settings import DEFAULT, RenderSettings

Leaves = dict[str, Tensor]
INSIDE = 1 - 1e-6  # how far tanh reaches
BOUND = 0.5  # GaussianImage adds it to scales and to the diagonal of the Cholesky factor
SMALLEST = 1e-3  # scale in pixels, where a parameterisation could divide by 0


class Parameters(NamedTuple):
    """A parameterisation.

    Args:
        split: Gaussians -> leaves "xy" [N, 2], "shape" [N, 2 or 3], "color" [N, C] and, but for
            Cholesky, "theta" [N].
        pack: leaves and the extent (width, height) -> packed parameters [N, 5 + C].
        shape: what their columns 2 to 4 are; see `taichi2dgs.render.render_packed`.
    """

    split: Callable[[Gaussians], Leaves]
    pack: Callable[[Leaves, Tensor], Tensor]
    shape: str = SHAPES[0]


def extent_of(size: tuple[int, int], like: Tensor) -> Tensor:
    """Return (width, height) as a tensor. [2]"""
    return torch.tensor([size[1], size[0]], dtype=like.dtype, device=like.device)


def _split_pixels(start: Gaussians) -> Leaves:
    return {
        "xy": start.xy,
        "shape": start.log_scale,
        "theta": start.theta,
        "color": start.color,
    }


def _pack_pixels(leaves: Leaves, extent: Tensor) -> Tensor:
    return torch.cat([leaves["xy"], leaves["shape"], leaves["theta"][:, None], leaves["color"]], 1)


def _split_relative(start: Gaussians, shape: Tensor) -> Leaves:
    xy = start.xy / extent_of(start.size, start.xy)
    return {"xy": xy, "shape": shape, "theta": start.theta, "color": start.color}


def _pack_relative(leaves: Leaves, extent: Tensor, log_scale: Tensor) -> Tensor:
    columns = [leaves["xy"] * extent, log_scale, leaves["theta"][:, None], leaves["color"]]
    return torch.cat(columns, 1)


def _split_log_scale(start: Gaussians) -> Leaves:
    return _split_relative(start, start.log_scale)


def _pack_log_scale(leaves: Leaves, extent: Tensor) -> Tensor:
    return _pack_relative(leaves, extent, leaves["shape"])


def _split_linear_scale(start: Gaussians) -> Leaves:
    return _split_relative(start, start.log_scale.exp())


def _pack_linear_scale(leaves: Leaves, extent: Tensor) -> Tensor:
    return _pack_relative(leaves, extent, leaves["shape"].abs().clamp(min=SMALLEST).log())


def _split_inverse_scale(start: Gaussians) -> Leaves:
    return _split_relative(start, (-start.log_scale).exp())


def _pack_inverse_scale(leaves: Leaves, extent: Tensor) -> Tensor:
    return _pack_relative(leaves, extent, -leaves["shape"].abs().clamp(min=SMALLEST).log())


def _tanh_of(start: Gaussians) -> Tensor:
    return torch.atanh((2 * start.xy / extent_of(start.size, start.xy) - 1).clamp(-INSIDE, INSIDE))


def _from_tanh(xy: Tensor, extent: Tensor) -> Tensor:
    return (torch.tanh(xy) + 1) / 2 * extent


def _split_rotation_scale(start: Gaussians) -> Leaves:
    turn = (start.theta / (2 * math.pi)).remainder(1).clamp(1e-4, 1 - 1e-4)
    return {
        "xy": _tanh_of(start),
        "shape": start.log_scale.exp() - BOUND,
        "theta": torch.logit(turn),
        "color": start.color,
    }


def _pack_rotation_scale(leaves: Leaves, extent: Tensor) -> Tensor:
    log_scale = (leaves["shape"] + BOUND).abs().clamp(min=SMALLEST).log()
    theta = 2 * math.pi * torch.sigmoid(leaves["theta"])
    return torch.cat(
        [_from_tanh(leaves["xy"], extent), log_scale, theta[:, None], leaves["color"]], 1
    )


def cholesky_of(start: Gaussians) -> Tensor:
    """Return (l0, l1, l2) of the covariances' Cholesky factors, in pixels. [N, 3]"""
    half = rotation(start.theta) * start.log_scale.exp()[:, None]
    factor = torch.linalg.cholesky(half @ half.transpose(1, 2))
    return torch.stack([factor[:, 0, 0], factor[:, 1, 0], factor[:, 1, 1]], 1)


def from_cholesky(
    params: Tensor, size: tuple[int, int], settings: RenderSettings = DEFAULT
) -> Gaussians:
    """Return the Gaussians of packed parameters with Cholesky shapes. [N, 5 + C]"""
    l0, l1, l2 = params[:, 2:5].unbind(1)
    factor = torch.stack([torch.stack([l0, 0 * l0], 1), torch.stack([l1, l2], 1)], 1)
    variances, axes = torch.linalg.eigh(factor @ factor.transpose(1, 2))
    return Gaussians(
        xy=params[:, :2],
        log_scale=variances.clamp(min=SMALLEST**2).log() / 2,
        theta=torch.atan2(axes[:, 1, 0], axes[:, 0, 0]),
        color=params[:, 5:],
        size=size,
        settings=settings,
    )


def _split_cholesky(start: Gaussians) -> Leaves:
    bound = start.xy.new_tensor([BOUND, 0, BOUND])
    return {"xy": _tanh_of(start), "shape": cholesky_of(start) - bound, "color": start.color}


def _pack_cholesky(leaves: Leaves, extent: Tensor) -> Tensor:
    shape = leaves["shape"] + leaves["shape"].new_tensor([BOUND, 0, BOUND])
    # A factor with a 0 on its diagonal has no inverse.
    sign = 1 - 2 * (shape < 0).to(shape)  # where of two numbers would be of torch's default type
    away = sign * shape.abs().clamp(min=SMALLEST)
    shape = torch.stack([away[:, 0], shape[:, 1], away[:, 2]], 1)
    return torch.cat([_from_tanh(leaves["xy"], extent), shape, leaves["color"]], 1)


PARAMETERS = {
    "pixels": Parameters(_split_pixels, _pack_pixels),  # those of a fused fit
    "log-scale": Parameters(_split_log_scale, _pack_log_scale),
    "linear-scale": Parameters(_split_linear_scale, _pack_linear_scale),
    "inverse-scale": Parameters(_split_inverse_scale, _pack_inverse_scale),
    "rotation-scale": Parameters(_split_rotation_scale, _pack_rotation_scale),
    "cholesky": Parameters(_split_cholesky, _pack_cholesky, "cholesky"),
}
