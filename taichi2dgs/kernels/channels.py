"""What a span does for each of its channels: blend, meet the image, send gradients back.

Up to `UNROLLED` channels every loop is unrolled. Of more, that would be thousands of instructions,
as each handles all lanes, and compiling 16 channels took minutes: there loops are loops. A GPU's
registers can be told apart only where loops are unrolled; its spans have a single lane.
"""

from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels.binning import GEOMETRY, RECORD, array

UNROLLED = 4


def make(channels: int, normalized: bool, lanes: int, real, chosen) -> SimpleNamespace:
    """Return the functions for one configuration; `chosen` is what `selection.make` returns."""
    reals = ti.types.vector(lanes, real)
    rows, get, put = chosen.rows, chosen.get, chosen.put
    wide = lanes > 1
    unrolled = channels <= UNROLLED or not wide

    @ti.func
    def set_zero(state: array, unit):
        """Zero the sum of weights and the colours of a span."""
        if ti.static(unrolled):
            for k in ti.static(range(rows.total, rows.d_out)):
                put(state, unit, k, reals(0))
        else:
            for k in range(rows.total, rows.d_out):
                put(state, unit, k, reals(0))

    @ti.func
    def add_color(state: array, unit, e, c: ti.template(), w, packed: array):
        out = get(state, unit, rows.out + c)
        put(state, unit, rows.out + c, out + w * packed[e][RECORD + c])

    @ti.func
    def accumulate(state: array, unit, e, w, packed: array):
        """Add entry e to a span with the weights w."""
        put(state, unit, rows.total, get(state, unit, rows.total) + w)
        if ti.static(unrolled):
            for c in ti.static(range(channels)):
                add_color(state, unit, e, c, w, packed)
        else:
            for c in range(channels):
                add_color(state, unit, e, c, w, packed)

    @ti.func
    def scale_rows(state: array, unit, first: ti.template(), scale):
        """Multiply the colours of a span, or their gradients, from row `first` on."""
        if ti.static(unrolled):
            for c in ti.static(range(channels)):
                put(state, unit, first + c, get(state, unit, first + c) * scale)
        else:
            for c in range(channels):
                put(state, unit, first + c, get(state, unit, first + c) * scale)

    @ti.func
    def add(sums: array, grads: array, e, j: ti.template(), value):
        """One thread owns a tile on CPU, where `+=` would be a needless atomic."""
        if ti.static(wide):
            sums[e, j] = sums[e, j] + value
        else:
            grads[e][j] += value[0]

    @ti.func
    def push_color(state: array, unit, e, c: ti.template(), w, packed: array, sums: array,
                   grads: array):  # fmt: skip
        d_out = get(state, unit, rows.d_out + c)
        relative = reals(0) + packed[e][RECORD + c]
        if ti.static(normalized):
            relative -= get(state, unit, rows.out + c)
        add(sums, grads, e, GEOMETRY + c, w * d_out)
        return d_out * relative

    @ti.func
    def push_colors(state: array, unit, e, w, packed: array, sums: array, grads: array):
        """Add to the colours of entry e what a span sends back; return dL/d(weight)."""
        d_weight = reals(0)
        if ti.static(unrolled):
            for c in ti.static(range(channels)):
                d_weight += push_color(state, unit, e, c, w, packed, sums, grads)
        else:
            for c in range(channels):
                d_weight += push_color(state, unit, e, c, w, packed, sums, grads)
        return d_weight

    @ti.func
    def clear_sums(sums: array, e):
        if ti.static(unrolled):
            for j in ti.static(range(GEOMETRY + channels)):
                sums[e, j] = reals(0)
        else:
            for j in range(GEOMETRY + channels):
                sums[e, j] = reals(0)

    @ti.func
    def sum_lanes(sums: array, grads: array, e):
        """Bring what an entry received, in each lane, to its gradient."""
        if ti.static(unrolled):
            for j in ti.static(range(GEOMETRY + channels)):
                grads[e][j] = sums[e, j].sum()
        else:
            for j in range(GEOMETRY + channels):
                grads[e][j] = sums[e, j].sum()

    def make_exchange(task: str):
        """Return the function that brings a span to the image or back; see `splat.make_walk`."""

        @ti.func
        def exchange_color(state: array, unit, c: ti.template(), ix, iy, image: array, view, loss):
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
        def exchange(state: array, unit, ix, iy, image: array, view):
            """Bring a span's colours to the image, or the image to the span; return the error."""
            loss = real(0.0)
            if ti.static(unrolled):
                for c in ti.static(range(channels)):
                    loss = exchange_color(state, unit, c, ix, iy, image, view, loss)
            else:
                for c in range(channels):
                    loss = exchange_color(state, unit, c, ix, iy, image, view, loss)
            return loss

        return exchange

    return SimpleNamespace(
        set_zero=set_zero, accumulate=accumulate, scale_rows=scale_rows, add=add,
        push_colors=push_colors, clear_sums=clear_sums, sum_lanes=sum_lanes,
        make_exchange=make_exchange,
    )  # fmt: skip
