"""The order of Gaussians along a curve, in which neighbours in space are neighbours."""

from __future__ import annotations

import torch
from torch import Tensor


def morton_order(xy: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the order of centres along a Z-shaped curve: neighbours in space become neighbours.

    Equal codes keep their order, so that duplicates still break ties the same way.

    Args:
        xy: centres in pixels. [N, 2]
        size: (height, width) that bounds them; those outside are taken to the border.

    Returns:
        Indices, on the device of xy. [N]
    """
    bits = max(size).bit_length() + 1  # cells of half a pixel
    code = torch.zeros(len(xy), dtype=torch.int64, device=xy.device)
    for axis, extent in enumerate((size[1], size[0])):
        cell = (xy[:, axis].detach().clamp(0, extent) * 2).long()
        for bit in range(bits):
            code |= ((cell >> bit) & 1) << (2 * bit + axis)
    return code.argsort(stable=True)
