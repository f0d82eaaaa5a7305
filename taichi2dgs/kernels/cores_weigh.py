"""Which entries of a block count at each of its pixels, and how much, on cores.

See `cores_walk.py` for the order of the passes and for the arrays. Where several entries tie at the
threshold, the lower indices count: a block that has a pixel with more than K weights is weighed
again, by `settle_ties`.
"""

from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels import cores_topk, maths
from taichi2dgs.kernels.binning import EMPTY, UX, UY, VX, VY, X, Y, array
from taichi2dgs.kernels.cores_cull import LANES
from taichi2dgs.kernels.cores_lists import COLOR
from taichi2dgs.kernels.cores_topk import GROUP
from taichi2dgs.kernels.variant import Variant


def make(variant: Variant) -> SimpleNamespace:
    """Return the functions that weigh the entries of one block."""
    real, channels, top_k = variant.real, variant.channels, variant.top_k
    normalized = variant.normalized
    m = maths.make(real)
    reals = ti.types.vector(LANES, real)
    nearest = cores_topk.make(top_k, LANES, real)
    rows = max(nearest.rows, channels)  # of slots, of each worker

    @ti.func
    def whitened(own: array, e, x, y):
        """The offset of each lane in standard deviations of entry e, along its axes."""
        dx, dy = x - own[e][X], y - own[e][Y]
        return dx * own[e][UX] + dy * own[e][UY], dx * own[e][VX] + dy * own[e][VY]

    @ti.func
    def distance(own: array, e, x, y):
        """The squared Mahalanobis distance of each lane from entry e."""
        u, v = whitened(own, e, x, y)
        return u * u + v * v

    @ti.func
    def thresholds(own: array, lists: array, first, found, x, y, values: array, at,
                   slots: array, worker):  # fmt: skip
        """Write squared distances to values; return what the K nearest of each lane are within."""
        kth = reals(EMPTY)
        groups = (found + GROUP - 1) // GROUP
        for n in range(GROUP * groups):
            q = distance(own, lists[first + n], x, y)
            values[at + n, 0] = ti.select(q >= 0, q, values[at + n, 0])
        if ti.static(normalized and nearest.network):
            distances = [reals(EMPTY) for _ in ti.static(range(top_k))]
            for group in range(groups):
                new = [values[at + GROUP * group + j, 0] for j in ti.static(range(GROUP))]
                nearest.take(distances, new)
                lists[first - 1] = found  # the loop loads whole vectors only if it stores something
            kth = distances[top_k - 1]
        elif ti.static(normalized):
            kth = nearest.by_insertion(slots, worker * rows, values, at, found)
        return kth

    @ti.func
    def weigh(own: array, lists: array, first, found, values: array, at, kth, out: ti.template()):
        """Replace distances by weights; add up weights and colours, return how many count."""
        count = reals(0)
        for n in range(found):
            q = values[at + n, 0]
            counts = q <= kth
            w = ti.select(counts, m.exp_half(q), reals(0))
            values[at + n, 0] = w
            add_up(own, lists[first + n], w, out)
            if ti.static(normalized):
                count += ti.select(counts, reals(1), reals(0))
        return count

    @ti.func
    def add_up(own: array, e, w, out: ti.template()):
        """Add an entry's part to the colours in `out`, and w to the sum of weights after them."""
        for c in ti.static(range(channels)):
            out[c] = out[c] + w * own[e][COLOR + c]
        out[channels] = out[channels] + w

    @ti.func
    def settle_ties(own: array, lists: array, first, found, x, y, values: array, at, kth,
                    out: ti.template()):  # fmt: skip
        """Weigh a block anew of which some pixel has more than K entries within its threshold."""
        left = reals(top_k)
        for n in range(found):
            q = distance(own, lists[first + n], x, y)
            left -= ti.select(q < kth, reals(1), reals(0))
        for c in ti.static(range(channels + 1)):
            out[c] = reals(0)
        for n in range(found):
            q = distance(own, lists[first + n], x, y)
            tie = q == kth
            counts = (q < kth) | (tie & (left > 0))
            left -= ti.select(tie, reals(1), reals(0))
            w = ti.select(counts, m.exp_half(q), reals(0))
            values[at + n, 0] = ti.select(w >= 0, w, values[at + n, 0])
            add_up(own, lists[first + n], w, out)

    return SimpleNamespace(
        whitened=whitened, distance=distance, thresholds=thresholds, weigh=weigh, add_up=add_up,
        settle_ties=settle_ties, exp_half=m.exp_half, rows=rows,
    )  # fmt: skip
