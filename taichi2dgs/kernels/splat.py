"""Top-K selection, normalised weighted splat and its backward, on a GPU.

Who owns what. A thread owns a pixel, and where there are more pixels than threads, some pixels in
turn (a unit); what it remembers of a pixel is in its registers. Pixels of a tile lie side by side,
so that neighbouring threads read the same list at the same time. Gradients of an entry belong to
all threads of its tile, which add to them atomically.

A thread passes over the list of its tile three times: `find` finds how near the K nearest are, see
`selection.py`; `blend_found` weighs the entries below that; `push_found` sends gradients back.

Arrays beside those of `binning.py`: grads [E] of 5 + C. Its first five columns are sums of h u,
h v, h u^2, h u v, h v^2 with h = dL/dq; they turn into the gradients of a Gaussian in `update.py`.
"""

from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels import binning, selection, update
from taichi2dgs.kernels.binning import GEOMETRY, RECORD, array


def make(
    channels: int, top_k: int, blend: str, real, shape: str = "scale-rotation"
) -> SimpleNamespace:
    """Return the splatting functions for one configuration.

    blend is "normalized" (paper Eq. 3 over the top K) or "sum" (all Gaussians, no denominator);
    shape is what columns 2 to 4 of the parameters are, see `binning.py`.
    """
    bins, u = binning.make(channels, real, shape), update.make(channels, real, shape)
    grad_row = ti.types.vector(GEOMETRY + channels, real)
    normalized = blend == "normalized"
    chosen = selection.make(channels, top_k, blend, real)
    rows = chosen.rows
    registers = ti.types.vector(rows.count, real)

    @ti.func
    def pixel_of(s, view):
        """Column and row of the s-th pixel, relative to the view, and its tile."""
        t = s // (view.tile_w * view.tile_h)
        inside = s - t * view.tile_w * view.tile_h
        ix = (t % view.tiles_x) * view.tile_w + inside % view.tile_w
        iy = (t // view.tiles_x) * view.tile_h + inside // view.tile_w
        return t, ix, iy

    @ti.func
    def blend_found(state: ti.template(), begin, end, x, y, packed: array, cutoff, eps):
        """Leave the colours in the state; return 1 / denominator."""
        for k in ti.static(range(rows.total, rows.d_out)):
            state[k] = real(0.0)
        if ti.static(normalized):
            chosen.count_ties(state)
        for e in range(begin, end):
            q = chosen.distance(packed, e, x, y, cutoff)
            if chosen.may_count(state, q):
                w = chosen.weight_of(state, q)
                state[rows.total] += w
                for c in ti.static(range(channels)):
                    state[rows.out + c] += w * packed[e][RECORD + c]
        scale = real(1.0)
        if ti.static(normalized):
            scale = 1 / (state[rows.total] + eps)
            for c in ti.static(range(channels)):
                state[rows.out + c] *= scale
        return scale

    @ti.func
    def push(state: ti.template(), e, x, y, w, packed: array, grads: array):
        """Add to entry e what a pixel sends back: d_out is already divided by the denominator."""
        u, v = chosen.whitened(packed, e, x, y)
        d_weight = real(0.0)
        for c in ti.static(range(channels)):
            d_out = state[rows.d_out + c]
            relative = packed[e][RECORD + c]
            if ti.static(normalized):
                relative -= state[rows.out + c]
            d_weight += d_out * relative
            grads[e][GEOMETRY + c] += w * d_out
        h = real(-0.5) * w * d_weight
        hu, hv = h * u, h * v
        grads[e][0] += hu
        grads[e][1] += hv
        grads[e][2] += hu * u
        grads[e][3] += hu * v
        grads[e][4] += hv * v

    @ti.func
    def push_found(state: ti.template(), begin, end, x, y, packed: array, grads: array, cutoff):
        if ti.static(normalized):
            chosen.count_ties(state)
        for e in range(begin, end):
            q = chosen.distance(packed, e, x, y, cutoff)
            if chosen.may_count(state, q):
                push(state, e, x, y, chosen.weight_of(state, q), packed, grads)

    def make_walk(task: str):
        """Return the function that treats every pixel of the view for one task.

        `image` is [H, W, C]. "render" writes it. "backward" reads it as dL/d(out). "score" and
        "fit" read it as the target and write the squared error of the clamped render, per unit;
        "backward" and "fit" fill grads, "fit" with the gradient of half the squared error.
        """
        pushes = task in ("backward", "fit")

        @ti.func
        def exchange(state: ti.template(), ix, iy, image: array):
            """Bring a pixel's colours to the image, or the image to the pixel; return the error."""
            loss = real(0.0)
            for c in ti.static(range(channels)):
                out = state[rows.out + c]
                if ti.static(task == "render"):
                    image[iy, ix, c] = out
                elif ti.static(task == "backward"):
                    state[rows.d_out + c] = image[iy, ix, c]
                else:
                    target = image[iy, ix, c]
                    state[rows.d_out + c] = out - target
                    error = ti.math.clamp(out, 0, 1) - target
                    loss += error * error
            return loss

        @ti.func
        def treat(begin, end, ix, iy, packed: array, grads: array, image: array, view, eps):
            """Treat one pixel; return its error."""
            x = (ti.cast(view.left + ix, real) + real(0.5)) * view.pitch_x
            y = (ti.cast(view.top + iy, real) + real(0.5)) * view.pitch_y
            state = registers(0)
            chosen.find(state, begin, end, x, y, packed, view.cutoff)
            scale = blend_found(state, begin, end, x, y, packed, view.cutoff, eps)
            loss = exchange(state, ix, iy, image)
            if ti.static(pushes):
                for c in ti.static(range(channels)):
                    state[rows.d_out + c] *= scale
                push_found(state, begin, end, x, y, packed, grads, view.cutoff)
            return loss

        @ti.func
        def walk(packed: array, starts: array, grads: array, image: array, losses: array, view,
                 units, pixels, eps):  # fmt: skip
            """Treat all pixels, `pixels` of them in each of the units."""
            for unit in range(units):
                loss = real(0.0)
                fits = bins.fits(starts, packed, view)
                for s in range(unit * pixels, (unit + 1) * pixels if fits else 0):
                    t, ix, iy = pixel_of(s, view)
                    if t < view.tiles_x * view.tiles_y and ix < view.width and iy < view.height:
                        loss += treat(
                            starts[t], starts[t + 1], ix, iy, packed, grads, image, view, eps
                        )
                if ti.static(task in ("score", "fit")):
                    losses[unit] = loss

        return walk

    @ti.func
    def clear(starts: array, packed: array, grads: array, view):
        """Zero the gradients of all entries in use: threads add to them."""
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

    elements = SimpleNamespace(packed=ti.types.vector(RECORD + channels, real), grads=grad_row)
    lists = SimpleNamespace(
        packed=ti.types.ndarray(elements.packed, 1), grads=ti.types.ndarray(grad_row, 1)
    )
    return SimpleNamespace(
        **vars(bins), elements=elements, lists=lists, make_walk=make_walk, clear=clear,
        gather=gather,
    )  # fmt: skip
