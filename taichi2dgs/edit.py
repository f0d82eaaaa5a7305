"""The mathematics of editing, on tensors; `Gaussians` has the methods."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import torch
from torch import Tensor

from taichi2dgs.checks import number, shown
from taichi2dgs.tensors import check_dense, kind_of


def rotation(theta: Tensor) -> Tensor:
    """Return the matrices R(theta), which turn x towards y. [N] -> [N, 2, 2]"""
    cos, sin = theta.cos(), theta.sin()
    return torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)


def rows(index: Any, count: int, device: torch.device) -> Tensor:
    """Return the numbers of the rows that a slice, booleans [N] or indices choose of N.

    Raises:
        ValueError: it is none of these, or an index is out of range.
    """
    chosen = None
    with contextlib.suppress(IndexError, TypeError, ValueError, RuntimeError, OverflowError):
        key = index if isinstance(index, slice) else torch.as_tensor(index, device=device)
        chosen = torch.arange(count, device=device)[key]
    if chosen is None or chosen.ndim != 1:
        what = f" is {kind_of(index)}" if isinstance(index, Tensor) else f"={shown(index)}"
        raise ValueError(
            f"index{what}; expected a slice, booleans [{count}], or indices below {count}"
        )
    return chosen


def mask(xy: Tensor, size: tuple[int, int], region: Any) -> Tensor:
    """Return which centres lie in a region; see `Gaussians.select`. bool [N]"""
    height, width = size
    x, y = xy.detach().floor().unbind(1)
    if hasattr(region, "__array__"):  # a tensor has it too
        try:
            chosen = torch.as_tensor(region, device=x.device)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"region={shown(region)}; expected booleans, {list(size)}") from None
        if chosen.dtype != torch.bool or tuple(chosen.shape) != size:
            raise ValueError(
                f"region is {kind_of(chosen)}; "
                f"expected booleans, {list(size)}, or (top, left, height, width)"
            )
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        column, row = x.clamp(0, width - 1).long(), y.clamp(0, height - 1).long()
        return inside & chosen[row, column]
    top, left, down, across = _numbers(region)
    return (y >= top) & (x >= left) & (y < top + down) & (x < left + across)


def affine(
    xy: Tensor, log_scale: Tensor, theta: Tensor, matrix: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Return centres, log-scales and angles after x' = A x + t; see `Gaussians.transform`.

    With M = A R S, the new covariance is M M^T; its axes are those of M's singular value
    decomposition, in closed form. The smaller value comes from the determinant: nothing cancels.
    """
    change = _matrix(matrix, "matrix", (2,), (3,), xy).double()
    linear = change[:, :2]
    determinant = float(linear.det().abs())
    if determinant == 0 or not math.isfinite(math.log(determinant)):
        raise ValueError(
            f"matrix={shown(change.tolist())} squashes the plane; expected an invertible one"
        )
    scales = log_scale.double()
    middle = scales.mean(1, keepdim=True)  # taken out, so that no scale overflows
    m = linear @ rotation(theta.double()) * (scales - middle).exp()[:, None, :]
    half_sum, half_difference = (m[:, 0, 0] + m[:, 1, 1]) / 2, (m[:, 0, 0] - m[:, 1, 1]) / 2
    cross_sum, cross_difference = (m[:, 1, 0] + m[:, 0, 1]) / 2, (m[:, 1, 0] - m[:, 0, 1]) / 2
    large = torch.hypot(half_sum, cross_difference) + torch.hypot(half_difference, cross_sum)
    log_large = large.log()
    log_small = math.log(determinant) - log_large
    angle = torch.atan2(cross_difference, half_sum) + torch.atan2(cross_sum, half_difference)
    moved = xy.double() @ linear.T + change[:, 2]
    stretched = torch.stack([log_large, log_small], 1) + middle
    return moved.to(xy), stretched.to(xy), (angle / 2).to(xy)


def recolored(color: Tensor, matrix: Any) -> Tensor:
    """Return new colours, linear in the old; see `Gaussians.recolor`. [N, C] -> [N, C']"""
    channels = color.shape[1]
    change = _matrix(matrix, "matrix", None, (channels, channels + 1), color)
    mixed = color @ change[:, :channels].T
    return mixed + change[:, channels] if change.shape[1] > channels else mixed


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


def check_like(first: Any, other: Any, name: str) -> None:
    """Raise ValueError unless some Gaussians can be one picture with the first."""
    if not isinstance(other, type(first)):
        raise ValueError(f"{name} is a {type(other).__name__}; expected Gaussians")
    for field in ("channels", "size", "settings", "maps"):
        if getattr(other, field) != getattr(first, field):
            raise ValueError(
                f"{name} has {field} {getattr(other, field)}; "
                f"expected {getattr(first, field)}, as the first"
            )
    if (other.xy.dtype, other.xy.device) != (first.xy.dtype, first.xy.device):
        raise ValueError(
            f"{name} is {other.xy.dtype} on {other.xy.device}; "
            f"expected {first.xy.dtype} on {first.xy.device}, as the first"
        )
