"""Noise of a step of a fit, added to its parameters and taken away again, on every device.

A step's noise is a function of its number, the Gaussian and the column, and not kept. Whose it is
that the parameters have, the device knows: so nothing that interrupts the host leaves some behind.
"""

import functools
from types import SimpleNamespace
from typing import Any

import taichi as ti

# The factors of a 32-bit integer hash with little bias (Wellons, "hash-prospector", lowbias32), and
# 2^32 by the golden ratio, which sets the steps apart.
FIRST, SECOND, APART = 0x7FEB352D, 0x846CA68B, 0x9E3779B9


@functools.cache
def make(columns: int, row: Any = None) -> SimpleNamespace:
    """Return the kernel `add_noise`.

    Args:
        columns: numbers of a Gaussian.
        row: type of a vector of them, if arrays have one for each Gaussian; else they are
            [N, columns].
    """
    has_rows = row is not None
    rows = ti.types.ndarray(row, 1) if has_rows else ti.types.ndarray(ti.f32, 2)

    @ti.func
    def hashed(whole):
        x = whole
        x ^= x >> 16
        x *= ti.u32(FIRST)
        x ^= x >> 15
        x *= ti.u32(SECOND)
        x ^= x >> 16
        return x

    @ti.func
    def uniform(index, number):
        """The noise of a step, between -1/2 and 1/2, of one parameter; that of step 0 is none."""
        x = hashed(hashed(ti.cast(index, ti.u32)) ^ ti.cast(number, ti.u32) * ti.u32(APART))
        return ti.select(number > 0, ti.cast(x >> 8, ti.f32) / (1 << 24) - 0.5, 0.0)

    @ti.kernel
    def add_noise(params: rows, amounts: rows, held: ti.types.ndarray(ti.i32, 1), number: ti.i32):
        """Put the noise of a step, times the amounts, in place of that of the step that is held."""
        for g in range(params.shape[0]):
            for j in ti.static(range(columns)):
                index = g * columns + j
                more = uniform(index, number) - uniform(index, held[0])
                if ti.static(has_rows):
                    params[g][j] += amounts[g][j] * more
                else:
                    params[g, j] += amounts[g, j] * more
        for _ in range(1):
            held[0] = number

    return SimpleNamespace(add_noise=add_noise)
