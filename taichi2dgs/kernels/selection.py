"""Which Gaussians a pixel blends on a GPU: the K nearest.

A pixel's thread keeps K squared distances in ascending order and, beside each, its entry. Entries
come in index order, and one that is as far as a kept one goes behind it: so of equal distances the
lowest indices stay. What was kept is blended as it stands; no distance is computed a second time
to be compared with the first, which compilers may round differently.

An example with K = 3, and entries a to e at the squared distances 4, 1, 4, 2, 4:
    kept, after each entry: a4; b1 a4; b1 a4 c4; b1 d2 a4; and again b1 d2 a4, as e's 4 is not below
    the last one's.
"""

from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels.binning import UX, UY, VX, VY, X, Y, array
from taichi2dgs.kernels.variant import Variant

UNROLLED = 16  # slots at most that are named one by one: of 32, compiling takes minutes


def make(variant: Variant) -> SimpleNamespace:
    """Return the functions that choose what a pixel blends, and the types of its slots."""
    real, top_k = variant.real, variant.top_k
    unrolled = top_k <= UNROLLED

    @ti.func
    def whitened(record, x, y):
        """The offset of a point in standard deviations of a Gaussian, along its axes."""
        dx, dy = x - record[X], y - record[Y]
        return dx * record[UX] + dy * record[UY], dx * record[VX] + dy * record[VY]

    @ti.func
    def keep(nearest: ti.template(), chosen: ti.template(), q, e):
        """Put entry e behind all slots that are not farther than q; the last slot falls out.

        It must be nearer than the last slot. A slot behind its place takes what was before it.
        """
        if ti.static(unrolled):
            farther = True
            for k in ti.static(range(top_k - 1, 0, -1)):
                before_farther = q < nearest[k - 1]
                moved = ti.select(before_farther, chosen[k - 1], e)
                chosen[k] = ti.select(farther, moved, chosen[k])
                nearest[k] = ti.min(nearest[k], ti.max(nearest[k - 1], q))
                farther = before_farther
            chosen[0] = ti.select(farther, e, chosen[0])
            nearest[0] = ti.min(nearest[0], q)
        else:
            k, looks = top_k - 1, True
            while looks:
                looks = False
                if k > 0:  # noqa: SIM102  (`and` would read the slot before the first)
                    if q < nearest[k - 1]:
                        nearest[k], chosen[k] = nearest[k - 1], chosen[k - 1]
                        k -= 1
                        looks = True
            nearest[k], chosen[k] = q, e

    @ti.func
    def choose(nearest: ti.template(), chosen: ti.template(), begin, end, x, y, records: array,
               entries: array, cutoff):  # fmt: skip
        """Fill the slots with the nearest entries of a list, of those that cover the point."""
        limit = cutoff * cutoff
        for e in range(begin, end):
            u, v = whitened(records[entries[e]], x, y)
            q = u * u + v * v
            if q <= limit and q < nearest[top_k - 1]:
                keep(nearest, chosen, q, e)

    return SimpleNamespace(
        unrolled=unrolled, whitened=whitened, choose=choose, distances=ti.types.vector(top_k, real),
        slots=ti.types.vector(top_k, ti.i32),
    )  # fmt: skip
