"""Which Gaussians a pixel blends on a GPU: the K nearest.

`find` keeps the K smallest squared distances, of which the K-th is the threshold; `weight_of` then
says, entry by entry and in index order, what counts. Which entry holds which rank is never asked.
The comparison is strict, and of those at the threshold the lower indices count.
"""

from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels import maths
from taichi2dgs.kernels.binning import UX, UY, VX, VY, X, Y, array

EMPTY = 1.0e30  # squared distance of what does not cover a pixel


class Rows(SimpleNamespace):
    """Rows of a pixel's state: K distances, ties that still count, sum of weights, colours, and
    their gradient."""

    def __init__(self, channels: int, top_k: int) -> None:
        super().__init__(ties=top_k, total=top_k + 1, out=top_k + 2)
        self.d_out = self.out + channels
        self.count = self.d_out + channels


def make(channels: int, top_k: int, blend: str, real) -> SimpleNamespace:
    """Return the selection functions for one configuration; see `splat.make`."""
    m = maths.make(real)
    normalized = blend == "normalized"
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
    def find(state: ti.template(), begin, end, x, y, packed: array, cutoff):
        """Find the threshold of a pixel among the entries of its tile."""
        if ti.static(normalized):
            for k in ti.static(range(top_k)):
                state[k] = real(EMPTY)
            for e in range(begin, end):
                q = distance(packed, e, x, y, cutoff)
                if q < state[top_k - 1]:
                    for k in ti.static(range(top_k)):
                        held = state[k]
                        nearer = q < held
                        state[k] = ti.select(nearer, q, held)
                        q = ti.select(nearer, held, q)

    @ti.func
    def may_count(state: ti.template(), q):
        """Whether a pixel needs the weight of an entry at distance q."""
        within = q < real(EMPTY)
        if ti.static(normalized):
            within = within and q <= state[top_k - 1]
        return within

    @ti.func
    def count_ties(state: ti.template()):
        """How many of the K are at the threshold: so many that come first by index count."""
        ties = real(0.0)
        for k in ti.static(range(top_k)):
            ties += ti.select(state[k] == state[top_k - 1], real(1.0), real(0.0))
        state[rows.ties] = ties

    @ti.func
    def weight_of(state: ti.template(), q):
        """Weight of an entry, 0 unless it is among the K; to be called in index order."""
        counts = q < real(EMPTY)
        if ti.static(normalized):
            kth, ties = state[top_k - 1], state[rows.ties]
            tie = q == kth
            state[rows.ties] = ties - ti.select(tie, real(1.0), real(0.0))
            counts = counts and (q < kth or (tie and ties > 0))
        w = m.exp_within(real(-0.5) * ti.select(counts, q, real(0.0)))
        return ti.select(counts, w, real(0.0))

    return SimpleNamespace(
        rows=rows, whitened=whitened, distance=distance, find=find, count_ties=count_ties,
        may_count=may_count, weight_of=weight_of,
    )  # fmt: skip
