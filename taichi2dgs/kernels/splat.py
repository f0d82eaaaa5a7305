"""Top-K selection, normalised weighted splat and its backward, one source for every device.

The unit of work is a span: `lanes` neighbouring pixels of one row, all treated alike. On CPU a
span is 8 pixels, so that LLVM makes vector instructions of it, and one thread owns a whole tile.
On a GPU a span is one pixel and one thread.

Arrays beside those of `binning.py` (U units of work, K slots, L lanes):
    slot_q and slot_e [U, K] or [K, U] of L lanes: squared distance (then weight) and entry;
    grads [E] of 5 + C: what each entry receives from its own tile.
The first five columns of grads are sums of h u, h v, h u^2, h u v, h v^2 with h = dL/dq; they turn
into the gradients of a Gaussian in `gather`.
"""

from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels import binning, maths
from taichi2dgs.kernels.binning import (
    FALL,
    GEOMETRY,
    PAD_PIXELS,
    PAD_RELATIVE,
    REACH,
    RECORD,
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
EMPTY = 1.0e30  # squared distance of a slot that holds nothing


def make(
    channels: int, top_k: int, blend: str, lanes: int, real, shape: str = "scale-rotation"
) -> SimpleNamespace:
    """Return the splatting functions for one configuration.

    blend is "normalized" (paper Eq. 3 over the top K) or "sum" (all Gaussians, no denominator);
    shape is what columns 2 to 4 of the parameters are, see `binning.py`.
    """
    bins, m = binning.make(channels, real, shape), maths.make(real)
    reals = ti.types.vector(lanes, real)
    ints = ti.types.vector(lanes, ti.i32)
    colors = ti.types.matrix(channels, lanes, real)
    grad_row = ti.types.vector(GEOMETRY + channels, real)
    normalized = blend == "normalized"
    offsets = [float(lane) for lane in range(lanes)]

    @ti.func
    def slot(unit, k):
        """Slots of a unit lie together on CPU; on a GPU those of neighbouring threads do."""
        at = ti.Vector([unit, k])
        if ti.static(lanes == 1):
            at = ti.Vector([k, unit])
        return at

    @ti.func
    def span_of(s, view):
        """Column and row, relative to the view, of the first pixel of span s, and its tile."""
        across = view.tile_w // lanes
        t = s // (across * view.tile_h)
        inside = s - t * across * view.tile_h
        ix = (t % view.tiles_x) * view.tile_w + inside % across * lanes
        iy = (t // view.tiles_x) * view.tile_h + inside // across
        return t, ix, iy

    @ti.func
    def points(ix, iy, view):
        """Sample points of a span, in the units of the Gaussians' centres."""
        first = ti.cast(view.left + ix, real) + real(0.5)
        x = (reals(offsets) + first) * view.pitch_x
        y = (ti.cast(view.top + iy, real) + real(0.5)) * view.pitch_y
        return x, y

    @ti.func
    def covers(packed: array, e, x, y):
        """Whether the support of entry e may reach the span: a padded test for the whole row."""
        dy = y - packed[e, Y]
        shift = packed[e, SHEAR] * dy
        square = packed[e, REACH] * real(1.0 + PAD_SQUARE) - packed[e, FALL] * dy * dy
        reach = ti.sqrt(ti.max(square, 0))
        reach += real(PAD_PIXELS) + real(PAD_RELATIVE) * (reach + ti.abs(dy) + ti.abs(shift))
        left = packed[e, X] - shift - reach
        return square >= 0 and left <= x[lanes - 1] and left + 2 * reach >= x[0]

    @ti.func
    def distance(packed: array, e, x, y, cutoff):
        """Squared Mahalanobis distance of each lane, EMPTY outside the support."""
        dx, dy = x - packed[e, X], y - packed[e, Y]
        u = dx * packed[e, UX] + dy * packed[e, UY]
        v = dx * packed[e, VX] + dy * packed[e, VY]
        q = u * u + v * v
        return ti.select(q <= cutoff * cutoff, q, reals(EMPTY))

    @ti.func
    def weight(q):
        return ti.select(q < real(EMPTY), m.exp(real(-0.5) * q), reals(0))

    @ti.func
    def select(unit, begin, end, x, y, packed: array, slot_q: array, slot_e: array, cutoff):
        """Leave in the slots the K nearest entries of each lane, nearest first.

        The comparison is strict and entries come in index order, so the lower index wins a tie.
        """
        for k in range(top_k):
            slot_q[slot(unit, k)] = reals(EMPTY)
            slot_e[slot(unit, k)] = ints(begin)
        for e in range(begin, end):
            if covers(packed, e, x, y):
                q = distance(packed, e, x, y, cutoff)
                entry = ints(e)
                for k in ti.static(range(top_k)):
                    at = slot(unit, k)
                    held_q, held_e = slot_q[at], slot_e[at]
                    nearer = q < held_q
                    slot_q[at] = ti.select(nearer, q, held_q)
                    slot_e[at] = ti.select(nearer, entry, held_e)
                    q = ti.select(nearer, held_q, q)
                    entry = ti.select(nearer, held_e, entry)

    @ti.func
    def blend_slots(unit, packed: array, slot_q: array, slot_e: array, eps):
        """Blended colour of each lane and 1 / denominator; slots keep weights from here on."""
        total = reals(0)
        out = colors(0)
        for k in range(top_k):
            at = slot(unit, k)
            w = weight(slot_q[at])
            slot_q[at] = w
            total += w
            for lane in ti.static(range(lanes)):
                e = slot_e[at][lane]
                for c in ti.static(range(channels)):
                    out[c, lane] += w[lane] * packed[e, RECORD + c]
        scale = 1 / (total + eps)
        for c, lane in ti.static(ti.ndrange(channels, lanes)):
            out[c, lane] *= scale[lane]
        return out, scale

    @ti.func
    def blend_all(begin, end, x, y, packed: array, cutoff):
        """Accumulated sum of every entry that covers the lane, in index order."""
        out = colors(0)
        for e in range(begin, end):
            if covers(packed, e, x, y):
                w = weight(distance(packed, e, x, y, cutoff))
                for c, lane in ti.static(ti.ndrange(channels, lanes)):
                    out[c, lane] += w[lane] * packed[e, RECORD + c]
        return out

    @ti.func
    def push(packed: array, grads: array, e, dx, dy, w, out, d_out, lane: ti.template()):
        """Add to entry e what one pixel sends back: d_out is already divided by the denominator."""
        u = dx * packed[e, UX] + dy * packed[e, UY]
        v = dx * packed[e, VX] + dy * packed[e, VY]
        row = grad_row(0)
        d_weight = real(0.0)
        for c in ti.static(range(channels)):
            row[GEOMETRY + c] = w * d_out[c, lane]
            d_weight += d_out[c, lane] * (packed[e, RECORD + c] - out[c, lane])
        h = real(-0.5) * w * d_weight
        row[0], row[1] = h * u, h * v
        row[2], row[3], row[4] = h * u * u, h * u * v, h * v * v
        if ti.static(lanes > 1):  # one thread owns the tile: `+=` would be a needless atomic
            grads[e] = grads[e] + row
        else:
            grads[e] += row

    @ti.func
    def push_slots(unit, x, y, packed: array, slot_q: array, slot_e: array, grads: array,
                   out, d_out):  # fmt: skip
        for k in range(top_k):
            at = slot(unit, k)
            w, entry = slot_q[at], slot_e[at]
            for lane in ti.static(range(lanes)):
                e = entry[lane]
                if ti.static(lanes > 1) or w[lane] > 0:
                    dx, dy = x[lane] - packed[e, X], y - packed[e, Y]
                    push(packed, grads, e, dx, dy, w[lane], out, d_out, lane)

    @ti.func
    def push_all(begin, end, x, y, packed: array, grads: array, d_out, cutoff):
        for e in range(begin, end):
            if covers(packed, e, x, y):
                w = weight(distance(packed, e, x, y, cutoff))
                for lane in ti.static(range(lanes)):
                    if w[lane] > 0:
                        dx, dy = x[lane] - packed[e, X], y - packed[e, Y]
                        push(packed, grads, e, dx, dy, w[lane], colors(0), d_out, lane)

    @ti.func
    def forward_span(unit, begin, end, x, y, packed: array, slot_q: array, slot_e: array,
                     cutoff, eps):  # fmt: skip
        """Colours of a span, and the factor that turns their gradient into that of the sums."""
        out = colors(0)
        scale = reals(1)
        if begin < end:
            if ti.static(normalized):
                select(unit, begin, end, x, y, packed, slot_q, slot_e, cutoff)
                out, scale = blend_slots(unit, packed, slot_q, slot_e, eps)
            else:
                out = blend_all(begin, end, x, y, packed, cutoff)
        return out, scale

    @ti.func
    def backward_span(unit, begin, end, x, y, packed: array, slot_q: array, slot_e: array,
                      grads: array, out, d_out, scale, cutoff):  # fmt: skip
        """Add what a span sends back to the gradients of its tile's entries."""
        if begin < end:
            for c, lane in ti.static(ti.ndrange(channels, lanes)):
                d_out[c, lane] *= scale[lane]
            if ti.static(normalized):
                push_slots(unit, x, y, packed, slot_q, slot_e, grads, out, d_out)
            else:
                push_all(begin, end, x, y, packed, grads, d_out, cutoff)

    def make_walk(task: str):
        """Return the function that treats every span of the view for one task.

        `image` is [H, W, C]. "render" writes it. "backward" reads it as dL/d(out). "score" and
        "fit" read it as the target and write the squared error of the clamped render, per unit;
        "backward" and "fit" fill grads, "fit" with the gradient of half the squared error.
        """

        @ti.func
        def walk(packed: array, starts: array, slot_q: array, slot_e: array, grads: array,
                 image: array, losses: array, view, units, spans, eps):  # fmt: skip
            for unit in range(units):
                loss = real(0.0)
                last = (unit + 1) * spans if bins.fits(starts, packed, view) else 0
                for s in range(unit * spans, last):
                    t, ix, iy = span_of(s, view)
                    if t < view.tiles_x * view.tiles_y and ix < view.width and iy < view.height:
                        x, y = points(ix, iy, view)
                        begin, end = starts[t], starts[t + 1]
                        out, scale = forward_span(
                            unit, begin, end, x, y, packed, slot_q, slot_e, view.cutoff, eps
                        )
                        d_out = colors(0)
                        for lane in ti.static(range(lanes)):
                            if ix + lane < view.width:
                                for c in ti.static(range(channels)):
                                    value = out[c, lane]
                                    if ti.static(task == "render"):
                                        image[iy, ix + lane, c] = value
                                    elif ti.static(task == "backward"):
                                        d_out[c, lane] = image[iy, ix + lane, c]
                                    else:
                                        target = image[iy, ix + lane, c]
                                        d_out[c, lane] = value - target
                                        error = ti.math.clamp(value, 0, 1) - target
                                        loss += error * error
                        if ti.static(task in ("backward", "fit")):
                            backward_span(
                                unit, begin, end, x, y, packed, slot_q, slot_e, grads,
                                out, d_out, scale, view.cutoff,
                            )  # fmt: skip
                if ti.static(task in ("score", "fit")):
                    losses[unit] = loss

        return walk

    @ti.func
    def clear(starts: array, packed: array, grads: array, view):
        """Zero the gradients of all entries in use."""
        for e in range(ti.min(starts[view.tiles_x * view.tiles_y], packed.shape[0])):
            grads[e] = grad_row(0)

    @ti.func
    def gather(params: array, records: array, rects: array, starts: array, entries: array,
               grads: array, g, view):  # fmt: skip
        """Gradient of the loss with respect to the parameters of Gaussian g, summed over tiles.

        With q = u^2 + v^2, du/d(log s0) = -u and du/d(theta) = v s1 / s0, likewise for v; and with
        u = dx / l0 and v = (dy - l1 u) / l2, du/d(l0) = -u / l0 and dv/d(l0, l1, l2) =
        (l1 u / l0, -u, -v) / l2.
        """
        row = grad_row(0)
        for n in range(rects[g, 2] * rects[g, 3]):
            row += grads[bins.entry_of(starts, entries, bins.tile_of(rects, g, n, view), g)]
        hu, hv, huu, huv, hvv = row[0], row[1], row[2], row[3], row[4]
        row[0] = -2 * (records[g, UX] * hu + records[g, VX] * hv)
        row[1] = -2 * (records[g, UY] * hu + records[g, VY] * hv)
        if ti.static(shape == "scale-rotation"):
            ratio = m.exp(params[g, 3] - params[g, 2])
            row[2], row[3] = -2 * huu, -2 * hvv
            row[4] = 2 * huv * (ratio - 1 / ratio)
        else:
            a, b, c = params[g, 2], params[g, 3], params[g, 4]
            row[2] = 2 * (huv * b / c - huu) / a
            row[3], row[4] = -2 * huv / c, -2 * hvv / c
        return row

    return SimpleNamespace(
        **vars(bins), reals=reals, ints=ints, grad_row=grad_row, make_walk=make_walk, clear=clear,
        gather=gather,
    )  # fmt: skip
