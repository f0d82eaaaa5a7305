"""What came in place of a tensor."""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor


def is_dense(value: object) -> TypeGuard[Tensor]:
    """Whether this is a tensor of torch whose values are there, side by side."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not (value.is_meta or value.is_nested or value.is_quantized)
    )


def kind_of(value: object) -> str:
    """Say in a few words what came in place of a dense tensor of some type and shape."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    if value.is_meta or value.is_nested:
        return f"a {'meta' if value.is_meta else 'nested'} tensor"
    if value.layout != torch.strided:
        return f"a {value.layout} tensor"
    return f"{value.dtype} {list(value.shape)}"


def check_dense(value: object, name: str) -> None:
    """Raise ValueError, naming the argument, unless this is a dense tensor."""
    if not is_dense(value):
        raise ValueError(f"{name} is {kind_of(value)}; expected a dense torch tensor")


def check_tensor(name: str, tensor: Tensor, shape: tuple, like: Tensor) -> None:
    """Raise ValueError unless a parameter of N Gaussians is of a shape, and as another one is.

    Args:
        name: of the parameter.
        tensor: it, a row for each Gaussian.
        shape: extents, None for any.
        like: the parameter whose type and device all have.
    """
    check_dense(tensor, name)
    text = "[" + ", ".join("C" if extent is None else str(extent) for extent in shape) + "]"
    fits = len(shape) == tensor.ndim and all(
        want in (None, got) for want, got in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{name} has shape {list(tensor.shape)}; expected {text}")
    if tensor.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name} is {tensor.dtype}; expected float32 or float64")
    if tensor.dtype != like.dtype or tensor.device != like.device:
        raise ValueError(
            f"{name} is {tensor.dtype} on {tensor.device}, xy is {like.dtype} on {like.device}; "
            "expected the same type and device"
        )
    if not bool(torch.isfinite(tensor).all()):
        bad = int((~torch.isfinite(tensor)).reshape(len(tensor), -1).any(dim=1).nonzero()[0])
        raise ValueError(f"{name} is not finite at Gaussian {bad}; expected finite numbers")
