"""Which Gaussians a pixel blends on a GPU: the K nearest.

`find` keeps the K smallest squared distances, of which the K-th is the threshold; `weight_of` then
says, entry by entry and in index order, what counts. Nobody asks which entry has which rank: an
entry below the threshold counts, and of the entries at it the lowest indices count.

An example with K = 3, and five entries at the squared distances 4, 1, 4, 2, 4:
    `find` has kept, after each entry: 4; 1 4; 1 4 4; 1 2 4; and again 1 2 4, as 4 is not below 4.
    The threshold is 4, and `count_ties` finds one of the three at it.
    `weight_of` says: the first entry counts, and is that one; 1 counts; the second 4 does not,
    because the one is taken; 2 counts; the last 4 does not.
The weights are exp(-2), exp(-1/2), 0, exp(-1), 0.
"""

from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels import maths
from taichi2dgs.kernels.binning import EMPTY, UX, UY, VX, VY, X, Y, array
from taichi2dgs.kernels.variant import Variant


class Rows(SimpleNamespace):
    """Where a pixel's registers keep what.

    The first K are its distances, then come the ties that still count, the sum of its weights, its
    colours, and their gradients.
    """

    def __init__(self, channels: int, top_k: int) -> None:
        super().__init__(ties=top_k, total=top_k + 1, out=top_k + 2)
        self.d_out = self.out + channels
        self.count = self.d_out + channels


def make(variant: Variant) -> SimpleNamespace:
    """Return the functions that find and weigh what a pixel blends."""
    real, channels, top_k = variant.real, variant.channels, variant.top_k
    normalized = variant.normalized
    m = maths.make(real)
    rows = Rows(channels, top_k if normalized else 0)

    @ti.func
    def whitened(packed: array, e, x, y):
        """The offset of the pixel in standard deviations of entry e, along its axes."""
        dx, dy = x - packed[e][X], y - packed[e][Y]
        u = dx * packed[e][UX] + dy * packed[e][UY]
        v = dx * packed[e][VX] + dy * packed[e][VY]
        return u, v

    @ti.func
    def distance(packed: array, e, x, y, cutoff):
        """Squared Mahalanobis distance, EMPTY outside the support."""
        u, v = whitened(packed, e, x, y)
        q = u * u + v * v
        return ti.select(q <= cutoff * cutoff, q, real(EMPTY))

    @ti.func
    def find(registers: ti.template(), begin, end, x, y, packed: array, cutoff):
        """Find the threshold of a pixel among the entries of its tile."""
        if ti.static(normalized):
            for k in ti.static(range(top_k)):
                registers[k] = real(EMPTY)
            for e in range(begin, end):
                q = distance(packed, e, x, y, cutoff)
                if q < registers[top_k - 1]:
                    for k in ti.static(range(top_k)):
                        kept = registers[k]
                        nearer = q < kept
                        registers[k] = ti.select(nearer, q, kept)
                        q = ti.select(nearer, kept, q)

    @ti.func
    def may_count(registers: ti.template(), q):
        """Whether a pixel needs the weight of an entry at distance q."""
        within = q < real(EMPTY)
        if ti.static(normalized):
            within = within and q <= registers[top_k - 1]
        return within

    @ti.func
    def count_ties(registers: ti.template()):
        """How many of the K are at the threshold: so many that come first by index count."""
        ties = real(0.0)
        for k in ti.static(range(top_k)):
            ties += ti.select(registers[k] == registers[top_k - 1], real(1.0), real(0.0))
        registers[rows.ties] = ties

    @ti.func
    def weight_of(registers: ti.template(), q):
        """Weight of an entry, 0 unless it is among the K; to be called in index order."""
        counts = q < real(EMPTY)
        if ti.static(normalized):
            kth, ties = registers[top_k - 1], registers[rows.ties]
            tie = q == kth
            registers[rows.ties] = ties - ti.select(tie, real(1.0), real(0.0))
            counts = counts and (q < kth or (tie and ties > 0))
        w = m.exp_within(real(-0.5) * ti.select(counts, q, real(0.0)))
        return ti.select(counts, w, real(0.0))

    return SimpleNamespace(
        rows=rows,
        whitened=whitened,
        distance=distance,
        find=find,
        count_ties=count_ties,
        may_count=may_count,
        weight_of=weight_of,
    )
