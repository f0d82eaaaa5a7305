"""A check that a device counts right: some software drivers lose atomic adds, silently."""

import taichi as ti


@ti.kernel
def count(lengths: ti.types.ndarray(ti.i32, 1), total: ti.types.ndarray(ti.i32, 1)):
    """Add 1 to total[0] in loops of unequal length; the sum of lengths must come out."""
    for k in range(lengths.shape[0]):
        for _ in range(lengths[k]):
            ti.atomic_add(total[0], 1)
