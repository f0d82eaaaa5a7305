"""Copies of Gaussians in pictures that wrap around, on every device.

In a picture that tiles, what leaves at one edge comes in at the other. There every Gaussian counts
as COPIES, numbered from 0, three in a row: with its centre brought into the picture by whole widths
and heights, that is number 4, and in the eight places that are one width or height away. Copy c of
Gaussian g has the slot COPIES g + c, and under that number a record, a rectangle of tiles and
entries of its own: so all that walks over tiles knows of no copies. In lists, which are in the
order of slots, a Gaussian of a lower index comes first, and its gradients are those of all of its
slots together. In other pictures a Gaussian has the slot of its own number.

Records are written of slots that reach the picture, and of number 4, from which gradients take the
shape.
"""

from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels.binning import X, Y, array
from taichi2dgs.kernels.pictures import PERIOD_X, PERIOD_Y
from taichi2dgs.kernels.variant import Variant

ACROSS = 3
MIDDLE = 4


def make(variant: Variant) -> SimpleNamespace:
    """Return the functions that know slots."""
    real = variant.real

    @ti.func
    def moved(record, pictures: array, p, c):
        """The record of copy c of a Gaussian in picture p."""
        width, height = ti.cast(pictures[p, PERIOD_X], real), ti.cast(pictures[p, PERIOD_Y], real)
        column, row = ti.cast(c % ACROSS - 1, real), ti.cast(c // ACROSS - 1, real)
        result = record
        result[X] += (column - ti.floor(record[X] / width)) * width
        result[Y] += (row - ti.floor(record[Y] / height)) * height
        return result

    @ti.func
    def middle(g):
        """The slot of Gaussian g that has a record, whatever it reaches."""
        slot = g
        if ti.static(variant.tile):
            slot = g * variant.copies + MIDDLE
        return slot

    return SimpleNamespace(moved=moved, middle=middle)
