"""What it would cost to leave a Gaussian out, on cores.

A pixel blends T = sum of w and S = sum of w c to S / (T + eps). Without a Gaussian of weight w and
colour c it would be (S - w c) / (T - w + eps), if those that are left are all that count: a farther
one, which would take the free place among the K nearest, is left out of account. With the "sum"
blend it would be S - w c. The cost of a Gaussian is by how much the squared error of the clamped
render would grow, summed over its pixels, by their weights if they have some; it is below zero
where the picture would be better off.
"""

from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels.binning import array
from taichi2dgs.kernels.cores_cull import LANES
from taichi2dgs.kernels.cores_lists import COLOR
from taichi2dgs.kernels.variant import Variant

OUTSIDE = 1.0e30  # the target where a block has a pixel that the view lacks


def make(variant: Variant) -> SimpleNamespace:
    """Return `push`, which adds a block to the sums of its entries, and `finish`, which ends it."""
    real, channels = variant.real, variant.channels
    reals = ti.types.vector(LANES, real)

    @ti.func
    def clamped(value):
        above = ti.select(value < 0, reals(0), value)
        return ti.select(above < 1, above, reals(1))

    @ti.func
    def push(own: array, lists: array, first, found, values: array, at, sums: array,
             out: ti.template(), target: ti.template(), eps):  # fmt: skip
        """Add to the first sum of each entry; `out` ends with the sum of weights, the
        target with the weight of the pixel, if there are any."""
        for n in range(found):
            e = lists[first + n]
            w = values[at + n, 0]
            rest = out[channels] - w
            rest = ti.select(rest > 0, rest, reals(0)) + eps
            cost = reals(0)
            for c in ti.static(range(channels)):
                without = out[c] - w * own[e][COLOR + c]
                if ti.static(variant.normalized):
                    without = out[c] + w * (out[c] - own[e][COLOR + c]) / rest
                after, before = clamped(without) - target[c], clamped(out[c]) - target[c]
                there = target[c] < real(OUTSIDE / 2)
                cost += ti.select(there, after * after - before * before, reals(0))
            if ti.static(variant.weighted):
                cost *= target[channels]
            total = sums[e, 0]
            sums[e, 0] = total + cost

    @ti.func
    def finish(begin, end, lists: array, order, sums: array, grads: array):
        """Add up the lanes of each entry's sum to the first column of grads, and clear it."""
        for n in range(end - begin):
            e = lists[order + n]
            v = sums[e, 0]
            grads[begin + n][0] = ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]))
            sums[e, 0] = reals(0)

    return SimpleNamespace(push=push, finish=finish)
