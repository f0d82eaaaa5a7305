"""Top-K selection, normalised weighted splat and its backward, one source for every device.

The unit of work is a span: `lanes` neighbouring pixels of one row, all treated alike. On CPU a
span is 8 pixels, so that LLVM makes vector instructions of it, and one thread owns a whole tile.
On a GPU a span is one pixel and one thread.

A span passes over the list of its tile three times: `select` finds how near the K nearest are, see
`selection.py`; `blend_found` weighs the entries below that; `push_found` sends gradients back.

Arrays beside those of `binning.py` (U units of work, L lanes), the first four on CPU only:
    state [U, rows] of L lanes: what a span remembers of itself, see `selection.Rows`;
    hits [E]: the entries that a span met; weights [E, 1] of L lanes: their squared distances, then
    weights; sums [E, 5 + C] of L lanes: what each entry receives from its own tile;
    grads [E] of 5 + C: the same, summed.
Arrays of lanes have two axes, since with one LLVM does not see that lanes lie side by side.
The first five columns of grads are sums of h u, h v, h u^2, h u v, h v^2 with h = dL/dq; they turn
into the gradients of a Gaussian in `gather`.
"""

from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels import binning, selection, update
from taichi2dgs.kernels.binning import GEOMETRY, RECORD, array


def make(
    channels: int, top_k: int, blend: str, lanes: int, real, shape: str = "scale-rotation"
) -> SimpleNamespace:
    """Return the splatting functions for one configuration.

    blend is "normalized" (paper Eq. 3 over the top K) or "sum" (all Gaussians, no denominator);
    shape is what columns 2 to 4 of the parameters are, see `binning.py`.
    """
    bins, u = binning.make(channels, real, shape), update.make(channels, real, shape)
    reals = ti.types.vector(lanes, real)
    grad_row = ti.types.vector(GEOMETRY + channels, real)
    normalized, wide = blend == "normalized", lanes > 1
    chosen = selection.make(channels, top_k, blend, lanes, real)
    rows, get, put, distance = chosen.rows, chosen.get, chosen.put, chosen.distance
    may_count, weight_of = chosen.may_count, chosen.weight_of
    registers = ti.types.vector(rows.count, real)
    offsets = [float(lane) for lane in range(lanes)]

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
    def entry(n, begin, hits: array):
        e = begin + n
        if ti.static(wide):
            e = hits[begin + n]
        return e

    @ti.func
    def blend_found(state: array, unit, begin, found, x, y, packed: array, hits: array,
                    weights: array, cutoff, eps):  # fmt: skip
        """Leave the colours in the state; return 1 / denominator of each lane."""
        for k in ti.static(range(rows.total, rows.d_out)):
            put(state, unit, k, reals(0))
        if ti.static(normalized):
            chosen.count_ties(state, unit)
        for n in range(found):
            e = entry(n, begin, hits)
            q = reals(0)
            if ti.static(wide):  # noqa: SIM108  (only one branch compiles)
                q = weights[begin + n, 0]
            else:
                q = distance(packed, e, x, y, cutoff)
            if ti.static(wide) or may_count(state, unit, q):
                w = weight_of(state, unit, q)
                if ti.static(wide):
                    weights[begin + n, 0] = w
                put(state, unit, rows.total, get(state, unit, rows.total) + w)
                for c in ti.static(range(channels)):
                    out = get(state, unit, rows.out + c)
                    put(state, unit, rows.out + c, out + w * packed[e][RECORD + c])
        scale = reals(1)
        if ti.static(normalized):
            scale = 1 / (get(state, unit, rows.total) + eps)
            for c in ti.static(range(channels)):
                put(state, unit, rows.out + c, get(state, unit, rows.out + c) * scale)
        return scale

    @ti.func
    def push(state: array, unit, e, x, y, w, packed: array, sums: array, grads: array):
        """Add to entry e what a span sends back: d_out is already divided by the denominator."""
        u, v = chosen.whitened(packed, e, x, y)
        d_weight = reals(0)
        for c in ti.static(range(channels)):
            d_out = get(state, unit, rows.d_out + c)
            relative = reals(0) + packed[e][RECORD + c]
            if ti.static(normalized):
                relative -= get(state, unit, rows.out + c)
            d_weight += d_out * relative
            add(sums, grads, e, GEOMETRY + c, w * d_out)
        h = real(-0.5) * w * d_weight
        hu, hv = h * u, h * v
        add(sums, grads, e, 0, hu)
        add(sums, grads, e, 1, hv)
        add(sums, grads, e, 2, hu * u)
        add(sums, grads, e, 3, hu * v)
        add(sums, grads, e, 4, hv * v)

    @ti.func
    def add(sums: array, grads: array, e, j: ti.template(), value):
        """One thread owns a tile on CPU, where `+=` would be a needless atomic."""
        if ti.static(wide):
            sums[e, j] = sums[e, j] + value
        else:
            grads[e][j] += value[0]

    @ti.func
    def push_found(state: array, unit, begin, found, x, y, packed: array, hits: array,
                   weights: array, sums: array, grads: array, cutoff):  # fmt: skip
        if ti.static(normalized and not wide):
            chosen.count_ties(state, unit)
        for n in range(found):
            e = entry(n, begin, hits)
            if ti.static(wide):
                push(state, unit, e, x, y, weights[begin + n, 0], packed, sums, grads)
            else:
                q = distance(packed, e, x, y, cutoff)
                if may_count(state, unit, q):
                    w = weight_of(state, unit, q)
                    push(state, unit, e, x, y, w, packed, sums, grads)

    def make_walk(task: str):
        """Return the function that treats every span of the view for one task.

        `image` is [H, W, C]. "render" writes it. "backward" reads it as dL/d(out). "score" and
        "fit" read it as the target and write the squared error of the clamped render, per unit;
        "backward" and "fit" fill grads, "fit" with the gradient of half the squared error.
        """
        pushes = task in ("backward", "fit")

        @ti.func
        def exchange(state: array, unit, ix, iy, image: array, view):
            """Bring a span's colours to the image, or the image to the span; return the error."""
            loss = real(0.0)
            for c in ti.static(range(channels)):
                out, d_out = get(state, unit, rows.out + c), reals(0)
                for lane in ti.static(range(lanes)):
                    if ix + lane < view.width:
                        if ti.static(task == "render"):
                            image[iy, ix + lane, c] = out[lane]
                        elif ti.static(task == "backward"):
                            d_out[lane] = image[iy, ix + lane, c]
                        else:
                            target = image[iy, ix + lane, c]
                            d_out[lane] = out[lane] - target
                            error = ti.math.clamp(out[lane], 0, 1) - target
                            loss += error * error
                put(state, unit, rows.d_out + c, d_out)
            return loss

        @ti.func
        def treat(state: array, unit, begin, end, ix, iy, limit, packed: array, hits: array,
                  weights: array, sums: array, grads: array, image: array, view, eps):  # fmt: skip
            """Treat one span; return its error, and how far the next one looks."""
            x, y = points(ix, iy, view)
            put(state, unit, rows.x, x)
            x = get(state, unit, rows.x)  # as one vector, not as numbers that LLVM knows one by one
            found, reached = chosen.select(
                state, unit, begin, end, x, y, packed, hits, weights, limit, view.cutoff
            )
            scale = blend_found(
                state, unit, begin, found, x, y, packed, hits, weights, view.cutoff, eps
            )
            loss = exchange(state, unit, ix, iy, image, view)
            if ti.static(pushes):
                for c in ti.static(range(channels)):
                    put(state, unit, rows.d_out + c, get(state, unit, rows.d_out + c) * scale)
                push_found(
                    state, unit, begin, found, x, y, packed, hits, weights, sums, grads,
                    view.cutoff,
                )  # fmt: skip
            return loss, reached

        @ti.func
        def walk(packed: array, starts: array, state: array, hits: array, weights: array,
                 sums: array, grads: array, image: array, losses: array, view, units, spans,
                 eps):  # fmt: skip
            for unit in range(units):
                loss = real(0.0)
                limit = view.cutoff * view.cutoff
                fits = bins.fits(starts, packed, view)
                if ti.static(wide and pushes):
                    for e in range(starts[unit], starts[unit + 1] if fits else starts[unit]):
                        for j in ti.static(range(GEOMETRY + channels)):
                            sums[e, j] = reals(0)
                last = (unit + 1) * spans if fits else 0
                for s in range(unit * spans, last):
                    t, ix, iy = span_of(s, view)
                    if t < view.tiles_x * view.tiles_y and ix < view.width and iy < view.height:
                        begin, end = starts[t], starts[t + 1]
                        error = real(0.0)
                        if ti.static(wide):
                            error, limit = treat(
                                state, unit, begin, end, ix, iy, limit, packed, hits, weights,
                                sums, grads, image, view, eps,
                            )  # fmt: skip
                        else:
                            own = registers(0)
                            error, limit = treat(
                                own, unit, begin, end, ix, iy, limit, packed, hits, weights,
                                sums, grads, image, view, eps,
                            )  # fmt: skip
                        loss += error
                if ti.static(wide and pushes):
                    for e in range(starts[unit], starts[unit + 1] if fits else starts[unit]):
                        for j in ti.static(range(GEOMETRY + channels)):
                            grads[e][j] = sums[e, j].sum()
                if ti.static(task in ("score", "fit")):
                    losses[unit] = loss

        return walk

    @ti.func
    def clear(starts: array, packed: array, grads: array, view):
        """Zero the gradients of all entries in use, where threads add to them."""
        if ti.static(not wide):
            for e in range(ti.min(starts[view.tiles_x * view.tiles_y], packed.shape[0])):
                grads[e] = grad_row(0)

    @ti.func
    def gather(params: array, records: array, rects: array, starts: array, entries: array,
               grads: array, g, view):  # fmt: skip
        """Gradient of the loss with respect to the parameters of Gaussian g, summed over tiles."""
        row = grad_row(0)
        for n in range(rects[g, 2] * rects[g, 3]):
            row += grads[bins.entry_of(starts, entries, bins.tile_of(rects, g, n, view), g)]
        record = [records[g, j] for j in ti.static(range(RECORD))]
        shaped = [params[g, j] for j in ti.static(range(GEOMETRY))]
        return u.of_parameters(shaped, record, row)

    elements = SimpleNamespace(
        packed=ti.types.vector(RECORD + channels, real), span=reals, grads=grad_row
    )
    lists = SimpleNamespace(
        packed=ti.types.ndarray(elements.packed, 1), state=ti.types.ndarray(reals, 2),
        weights=ti.types.ndarray(reals, 2), sums=ti.types.ndarray(reals, 2),
        grads=ti.types.ndarray(grad_row, 1),
    )  # fmt: skip
    return SimpleNamespace(
        **vars(bins), elements=elements, lists=lists, rows=rows.count, make_walk=make_walk,
        clear=clear, gather=gather,
    )  # fmt: skip
