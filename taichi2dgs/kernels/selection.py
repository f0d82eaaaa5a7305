"""Which Gaussians a span of pixels blends: the K nearest of each pixel.

`find` keeps the K smallest squared distances of each lane, of which the K-th is the threshold;
`weight_of` then says, entry by entry and in index order, what counts. Which entry holds which rank
is never asked, so all of it is arithmetic on whole spans. The comparison is strict, and of those at
the threshold the lower indices count.

On CPU `find` lists the entries that may reach the span, for those who follow, and looks no farther
than `limit`, if that turns out to have been enough. Arrays: see `splat.py`.
"""

from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels import maths
from taichi2dgs.kernels.binning import (
    FALL,
    PAD_PIXELS,
    PAD_RELATIVE,
    REACH,
    SHEAR,
    UX,
    UY,
    VX,
    VY,
    X,
    Y,
    array,
)

PAD_SQUARE = 1.0e-5  # relative, on a difference of squares: covers the rounding of both
EMPTY = 1.0e30  # squared distance of what does not cover a pixel
SLACK = 1.25  # of a threshold, that the next span looks beyond it


class Rows(SimpleNamespace):
    """Rows of a span's state: K distances, ties that still count, sum of weights, colours, their
    gradient, and x."""

    def __init__(self, channels: int, top_k: int) -> None:
        super().__init__(ties=top_k, total=top_k + 1, out=top_k + 2)
        self.d_out = self.out + channels
        self.x = self.d_out + channels
        self.count = self.x + 1


def make(channels: int, top_k: int, blend: str, lanes: int, real) -> SimpleNamespace:
    """Return the selection functions for one configuration; see `splat.make`."""
    m = maths.make(real)
    reals = ti.types.vector(lanes, real)
    normalized, wide = blend == "normalized", lanes > 1
    rows = Rows(channels, top_k if normalized else 0)

    @ti.func
    def get(state: array, unit, k: ti.template()):
        """Row k of a span's state: in an array on CPU, in registers on a GPU."""
        value = reals(0)
        if ti.static(wide):
            value = state[unit, k]
        else:
            value[0] = state[k]
        return value

    @ti.func
    def put(state: array, unit, k: ti.template(), value):
        if ti.static(wide):
            state[unit, k] = value
        else:
            state[k] = value[0]

    @ti.func
    def covers(packed: array, e, x, y, part):
        """Whether entry e, its squared support times `part`, may reach the span: a padded test.

        The squared distance of the span from the middle of the support's row against the square of
        half that row, which is negative where the support does not reach the row.
        """
        dy = y - packed[e][Y]
        shift = packed[e][SHEAR] * dy
        middle, half = (x[0] + x[lanes - 1]) / 2, (x[lanes - 1] - x[0]) / 2
        away = ti.abs(middle - packed[e][X] + shift) - half
        away -= real(PAD_PIXELS) + real(PAD_RELATIVE) * (
            ti.abs(away) + ti.abs(dy) + ti.abs(shift)
        )  # fmt: skip
        away = ti.select(away > 0, away, real(0.0))
        return away * away <= packed[e][REACH] * part - packed[e][FALL] * dy * dy

    @ti.func
    def whitened(packed: array, e, x, y):
        """The offset of each lane in standard deviations of entry e, along its axes."""
        dx, dy = x - packed[e][X], y - packed[e][Y]
        u = dx * packed[e][UX] + dy * packed[e][UY]
        v = dx * packed[e][VX] + dy * packed[e][VY]
        return u, v

    @ti.func
    def distance(packed: array, e, x, y, cutoff):
        """Squared Mahalanobis distance of each lane, EMPTY outside the support."""
        u, v = whitened(packed, e, x, y)
        q = u * u + v * v
        return ti.select(q <= cutoff * cutoff, q, reals(EMPTY))

    @ti.func
    def keep_smallest(state: array, unit, q):
        for k in ti.static(range(top_k)):
            held = get(state, unit, k)
            nearer = q < held
            put(state, unit, k, ti.select(nearer, q, held))
            q = ti.select(nearer, held, q)

    @ti.func
    def find(state: array, unit, begin, end, x, y, packed: array, hits: array, weights: array,
             limit, cutoff):  # fmt: skip
        """List the entries within a squared distance of the span, and find its thresholds.

        Returns how many entries `blend` and `push` have to pass over.
        """
        if ti.static(normalized):
            for k in ti.static(range(top_k)):
                put(state, unit, k, reals(EMPTY))
        part = limit / (cutoff * cutoff) * real(1.0 + PAD_SQUARE)
        found = end - begin
        if ti.static(wide):
            found = 0
            for e in range(begin, end):  # without a branch: half of them would be mispredicted
                hits[begin + found] = e
                found += ti.cast(covers(packed, e, x, y, part), ti.i32)
            for n in range(found):
                q = distance(packed, hits[begin + n], x, y, cutoff)
                # LLVM makes one vector store only of what reads its place first.
                weights[begin + n, 0] = ti.select(q >= 0, q, weights[begin + n, 0])
                if ti.static(normalized):
                    keep_smallest(state, unit, q)
        elif ti.static(normalized):
            for e in range(begin, end):  # of a single pixel, the distance is the cheaper test
                q = distance(packed, e, x, y, cutoff)
                if q[0] < get(state, unit, top_k - 1)[0]:
                    keep_smallest(state, unit, q)
        return found

    @ti.func
    def threshold(state: array, unit):
        """The greatest K-th smallest distance of all lanes."""
        kth = get(state, unit, top_k - 1)
        greatest = kth[0]
        for lane in ti.static(range(1, lanes)):
            greatest = ti.select(kth[lane] > greatest, kth[lane], greatest)
        return greatest

    @ti.func
    def select(state: array, unit, begin, end, x, y, packed: array, hits: array, weights: array,
               limit, cutoff):  # fmt: skip
        """Find as near as `limit` first; farther, if some lane then has fewer than K within it."""
        whole = cutoff * cutoff
        found, again = 0, 1
        while again == 1:
            found = find(state, unit, begin, end, x, y, packed, hits, weights, limit, cutoff)
            again = 0
            if ti.static(wide and normalized):
                reached = threshold(state, unit)
                if reached > limit and limit < whole:
                    limit, again = whole, 1
                else:
                    limit = ti.min(reached * real(SLACK), whole)
        return found, limit

    @ti.func
    def may_count(state: array, unit, q):
        """Whether a single pixel, at distance q, needs the weight of an entry."""
        within = q[0] < real(EMPTY)
        if ti.static(normalized):
            within = within and q[0] <= get(state, unit, top_k - 1)[0]
        return within

    @ti.func
    def count_ties(state: array, unit):
        """How many of the K are at the threshold: so many that come first by index count."""
        kth = get(state, unit, top_k - 1)
        ties = reals(0)
        for k in ti.static(range(top_k)):
            ties += ti.select(get(state, unit, k) == kth, reals(1), reals(0))
        put(state, unit, rows.ties, ties)

    @ti.func
    def weight_of(state: array, unit, q):
        """Weight of each lane, 0 unless it is among the K; to be called in index order."""
        counts = q < real(EMPTY)
        if ti.static(normalized):
            kth, ties = get(state, unit, top_k - 1), get(state, unit, rows.ties)
            tie = q == kth
            put(state, unit, rows.ties, ties - ti.select(tie, reals(1), reals(0)))
            counts = counts and (q < kth or (tie and ties > 0))
        w = m.exp_within(real(-0.5) * ti.select(counts, q, reals(0)))
        return ti.select(counts, w, reals(0))

    return SimpleNamespace(
        rows=rows, get=get, put=put, whitened=whitened, distance=distance,
        select=select, count_ties=count_ties, may_count=may_count, weight_of=weight_of,
    )  # fmt: skip
