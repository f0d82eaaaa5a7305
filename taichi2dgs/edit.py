"""Editing, as methods of `Gaussians`: select, transform, concat, recolor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from taichi2dgs.settings import number, shown
from taichi2dgs.tensors import check_dense, is_dense, kind_of

if TYPE_CHECKING:
    from taichi2dgs.gaussians import Gaussians


def select(gaussians: Gaussians, region: Any) -> Gaussians:
    """See `Gaussians.select`."""
    height, width = gaussians.size
    x, y = gaussians.xy.detach().floor().unbind(1)
    if hasattr(region, "__array__"):  # a tensor has it too
        try:
            mask = torch.as_tensor(region, device=x.device)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(
                f"region={shown(region)}; expected booleans, {list(gaussians.size)}"
            ) from None
        if not is_dense(mask) or mask.dtype != torch.bool or tuple(mask.shape) != gaussians.size:
            raise ValueError(
                f"region is {kind_of(mask)}; "
                f"expected booleans, {list(gaussians.size)}, or (top, left, height, width)"
            )
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        column, row = x.clamp(0, width - 1).long(), y.clamp(0, height - 1).long()
        chosen = inside & mask[row, column]
    else:
        top, left, rows, columns = _numbers(region)
        chosen = (y >= top) & (x >= left) & (y < top + rows) & (x < left + columns)
    return gaussians._map(lambda tensor: tensor[chosen])


def transform(gaussians: Gaussians, matrix: Any, size: tuple[int, int] | None) -> Gaussians:
    """See `Gaussians.transform`.

    With M = A R S, the new covariance is M M^T; its axes are those of M's singular value
    decomposition, in closed form. The smaller value comes from the determinant: nothing cancels.
    """
    affine = _matrix(matrix, "matrix", (2,), (3,), gaussians.xy).double()
    linear = affine[:, :2]
    determinant = float(linear.det().abs())
    if determinant == 0 or not math.isfinite(math.log(determinant)):
        raise ValueError(
            f"matrix={shown(affine.tolist())} squashes the plane; expected an invertible one"
        )
    cos, sin = gaussians.theta.double().cos(), gaussians.theta.double().sin()
    rotation = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    log_scale = gaussians.log_scale.double()
    middle = log_scale.mean(1, keepdim=True)  # taken out, so that no scale overflows
    m = linear @ rotation * (log_scale - middle).exp()[:, None, :]
    half_sum, half_difference = (m[:, 0, 0] + m[:, 1, 1]) / 2, (m[:, 0, 0] - m[:, 1, 1]) / 2
    cross_sum, cross_difference = (m[:, 1, 0] + m[:, 0, 1]) / 2, (m[:, 1, 0] - m[:, 0, 1]) / 2
    large = torch.hypot(half_sum, cross_difference) + torch.hypot(half_difference, cross_sum)
    first = large.log()
    second = math.log(determinant) - first
    angle = torch.atan2(cross_difference, half_sum) + torch.atan2(cross_sum, half_difference)
    xy = gaussians.xy.double() @ linear.T + affine[:, 2]
    return replace(
        gaussians,
        xy=xy.to(gaussians.xy),
        log_scale=(torch.stack([first, second], 1) + middle).to(gaussians.xy),
        theta=(angle / 2).to(gaussians.xy),
        size=gaussians.size if size is None else size,
    )


def concat(parts: Sequence[Gaussians]) -> Gaussians:
    """See `Gaussians.concat`."""
    first = parts[0]
    for index, part in enumerate(parts[1:]):
        if not isinstance(part, type(first)):
            raise ValueError(f"others[{index}] is a {type(part).__name__}; expected Gaussians")
        for name in ("channels", "size", "settings"):
            if getattr(part, name) != getattr(first, name):
                raise ValueError(
                    f"others[{index}] has {name} {getattr(part, name)}; "
                    f"expected {getattr(first, name)}, as the first"
                )
        if (part.xy.dtype, part.xy.device) != (first.xy.dtype, first.xy.device):
            raise ValueError(
                f"others[{index}] is {part.xy.dtype} on {part.xy.device}; "
                f"expected {first.xy.dtype} on {first.xy.device}, as the first"
            )
    joined = {name: torch.cat([dict(part._tensors())[name] for part in parts])
              for name, _ in first._tensors()}  # fmt: skip
    return replace(first, **joined)


def recolor(gaussians: Gaussians, matrix: Any) -> Gaussians:
    """See `Gaussians.recolor`."""
    channels = gaussians.channels
    change = _matrix(matrix, "matrix", None, (channels, channels + 1), gaussians.color)
    color = gaussians.color @ change[:, :channels].T
    if change.shape[1] > channels:
        color = color + change[:, channels]
    return replace(gaussians, color=color)


def _matrix(
    matrix: Any, name: str, rows: tuple[int, ...] | None, columns: tuple[int, ...], like: Tensor
) -> Tensor:
    """Return a matrix of one of the stated shapes, or raise ValueError."""
    try:
        values = torch.as_tensor(matrix, device=like.device, dtype=like.dtype)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ValueError(f"{name}={shown(matrix)}; expected rows of numbers") from None
    check_dense(values, name)
    fits = values.ndim == 2 and values.shape[1] in columns and len(values) > 0
    if not fits or (rows is not None and len(values) not in rows):
        wanted = f"[{'C' if rows is None else rows[0]}, {' or '.join(map(str, columns))}]"
        raise ValueError(f"{name} has shape {list(values.shape)}; expected {wanted}")
    if not bool(torch.isfinite(values).all()):
        raise ValueError(f"{name}={shown(values.tolist())}; expected finite numbers")
    return values


def _numbers(region: Any) -> list[float]:
    """Return (top, left, height, width), or raise ValueError."""
    try:
        numbers = [number(part) for part in region]
    except (TypeError, ValueError, RuntimeError):
        numbers = []
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise ValueError(
            f"region={shown(region)}; expected (top, left, height, width) or a mask of its pixels"
        )
    return numbers
