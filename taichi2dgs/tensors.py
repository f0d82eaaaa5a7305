"""What came in place of a tensor."""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor


def is_dense(value: object) -> TypeGuard[Tensor]:
    """Whether this is a tensor of torch whose values are there, side by side."""
    return (
        isinstance(value, Tensor) and value.layout == torch.strided
        and not (value.is_meta or value.is_nested or value.is_quantized)
    )  # fmt: skip


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
