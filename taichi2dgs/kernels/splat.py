"""Top-K selection, normalised weighted splat and its backward, on a GPU.

A thread owns a pixel or, where there are more pixels than threads, some pixels in turn (a unit).
What it remembers of a pixel is in its registers. Pixels of a tile lie side by side, so that
neighbouring threads read the same list at the same time. The gradients of an entry belong to all
threads of its tile, which add to them atomically.

A thread passes over the list of its tile three times: `find` finds how near the K nearest are, see
`selection.py`; `blend_found` weighs the entries below that; `push_found` sends gradients back.

Arrays beside those of `binning.py`: grads [E] of 5 + C. Its first five columns are sums of h u,
h v, h u^2, h u v, h v^2 with h = dL/dq; they turn into the gradients of a Gaussian in `update.py`.
"""

from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels import binning, selection, update
from taichi2dgs.kernels.binning import GEOMETRY, RECORD, array
from taichi2dgs.kernels.variant import Variant


def make(variant: Variant) -> SimpleNamespace:
    """Return the functions that splat, those of `binning.py`, and the types of their arrays."""
    real, channels, normalized = variant.real, variant.channels, variant.normalized
    bins, u = binning.make(variant), update.make(variant)
    grad_row = ti.types.vector(GEOMETRY + channels, real)
    chosen = selection.make(variant)
    rows = chosen.rows
    register_row = ti.types.vector(rows.count, real)

    @ti.func
    def pixel_of(s, view):
        """Column and row of the s-th pixel, relative to the view, and its tile."""
        t = s // (view.tile_w * view.tile_h)
        inside = s - t * view.tile_w * view.tile_h
        ix = (t % view.tiles_x) * view.tile_w + inside % view.tile_w
        iy = (t // view.tiles_x) * view.tile_h + inside // view.tile_w
        return t, ix, iy

    @ti.func
    def blend_found(registers: ti.template(), begin, end, x, y, packed: array, cutoff, eps):
        """Blend the entries that count into the registers; return 1 / denominator."""
        for k in ti.static(range(rows.total, rows.d_out)):
            registers[k] = real(0.0)
        if ti.static(normalized):
            chosen.count_ties(registers)
        for e in range(begin, end):
            q = chosen.distance(packed, e, x, y, cutoff)
            if chosen.may_count(registers, q):
                w = chosen.weight_of(registers, q)
                registers[rows.total] += w
                for c in ti.static(range(channels)):
                    registers[rows.out + c] += w * packed[e][RECORD + c]
        scale = real(1.0)
        if ti.static(normalized):
            scale = 1 / (registers[rows.total] + eps)
            for c in ti.static(range(channels)):
                registers[rows.out + c] *= scale
        return scale

    @ti.func
    def push(registers: ti.template(), e, x, y, w, packed: array, grads: array):
        """Add to entry e what a pixel sends back: d_out is already divided by the denominator."""
        u, v = chosen.whitened(packed, e, x, y)
        d_weight = real(0.0)
        for c in ti.static(range(channels)):
            d_out = registers[rows.d_out + c]
            relative = packed[e][RECORD + c]
            if ti.static(normalized):
                relative -= registers[rows.out + c]
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
    def push_found(registers: ti.template(), begin, end, x, y, packed: array, grads: array, cutoff):
        """Add to all entries that a pixel blended what it sends back."""
        if ti.static(normalized):
            chosen.count_ties(registers)
        for e in range(begin, end):
            q = chosen.distance(packed, e, x, y, cutoff)
            if chosen.may_count(registers, q):
                push(registers, e, x, y, chosen.weight_of(registers, q), packed, grads)

    def make_walk(task: str):
        """Return the function that treats every pixel of the view for one task.

        `image` is [H, W, C]. "render" writes it. "backward" reads it as dL/d(out). "score" and
        "fit" read it as the target and write the squared error of the clamped render, per unit;
        "backward" and "fit" fill grads, "fit" with the gradient of half the squared error.
        """
        pushes = task in ("backward", "fit")

        @ti.func
        def exchange(registers: ti.template(), ix, iy, image: array):
            """Bring a pixel's colours to the image, or the image to the pixel; return the error."""
            loss = real(0.0)
            for c in ti.static(range(channels)):
                out = registers[rows.out + c]
                if ti.static(task == "render"):
                    image[iy, ix, c] = out
                elif ti.static(task == "backward"):
                    registers[rows.d_out + c] = image[iy, ix, c]
                else:
                    target = image[iy, ix, c]
                    registers[rows.d_out + c] = out - target
                    error = ti.math.clamp(out, 0, 1) - target
                    loss += error * error
            return loss

        @ti.func
        def treat(begin, end, ix, iy, packed: array, grads: array, image: array, view, eps):
            """Treat one pixel; return its error."""
            x = (ti.cast(view.left + ix, real) + real(0.5)) * view.pitch_x
            y = (ti.cast(view.top + iy, real) + real(0.5)) * view.pitch_y
            registers = register_row(0)
            chosen.find(registers, begin, end, x, y, packed, view.cutoff)
            scale = blend_found(registers, begin, end, x, y, packed, view.cutoff, eps)
            loss = exchange(registers, ix, iy, image)
            if ti.static(pushes):
                for c in ti.static(range(channels)):
                    registers[rows.d_out + c] *= scale
                push_found(registers, begin, end, x, y, packed, grads, view.cutoff)
            return loss

        @ti.func
        def walk(
            packed: array,
            starts: array,
            grads: array,
            image: array,
            losses: array,
            view,
            units,
            pixels,
            eps,
        ):
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
    def gather(
        params: array,
        records: array,
        rects: array,
        starts: array,
        entries: array,
        grads: array,
        g,
        view,
    ):
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
        **vars(bins),
        elements=elements,
        lists=lists,
        make_walk=make_walk,
        clear=clear,
        gather=gather,
    )
