"""The kernels that the renderer launches on a GPU."""

import functools
from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels import binning, splat
from taichi2dgs.kernels.variant import Variant


@functools.cache
def make(variant: Variant) -> SimpleNamespace:
    """Return the kernels `measure`, `fill`, `forward`, `backward` and the type of their view."""
    real, channels = variant.real, variant.channels
    f = splat.make(variant)
    render, push = f.make_walk("render"), f.make_walk("backward")
    view_type = binning.view_type(real)
    reals_2 = ti.types.ndarray(real, 2)
    reals_3 = ti.types.ndarray(real, 3)
    ints_1 = ti.types.ndarray(ti.i32, 1)
    ints_2 = ti.types.ndarray(ti.i32, 2)
    lists = f.lists

    @ti.kernel
    def measure(
        params: reals_2,
        records: reals_2,
        rects: ints_2,
        counts: ints_1,
        starts: ints_1,
        partial: ints_1,
        view: view_type,
    ):
        """Project, and count entries: starts[T] is the capacity that `fill` needs."""
        f.project(params, records, rects, counts, view)
        f.scan(counts, starts, partial, view)

    @ti.kernel
    def fill(
        params: reals_2,
        records: reals_2,
        rects: ints_2,
        counts: ints_1,
        starts: ints_1,
        entries: ints_1,
        packed: lists.packed,
        view: view_type,
    ):
        """Write the lists, if they fit."""
        f.fill(params, records, rects, counts, starts, entries, packed, view)

    @ti.kernel
    def forward(
        packed: lists.packed,
        starts: ints_1,
        out: reals_3,
        view: view_type,
        units: ti.i32,
        pixels: ti.i32,
        eps: real,
    ):
        """Write out [H, W, C]."""
        render(packed, starts, None, out, None, view, units, pixels, eps)

    @ti.kernel
    def backward(
        params: reals_2,
        records: reals_2,
        rects: ints_2,
        starts: ints_1,
        entries: ints_1,
        packed: lists.packed,
        grads: lists.grads,
        d_out: reals_3,
        d_params: reals_2,
        view: view_type,
        units: ti.i32,
        pixels: ti.i32,
        eps: real,
    ):
        """Write d_params [N, 5 + C] from d_out [H, W, C], after the same selection as `forward`."""
        f.clear(starts, packed, grads, view)
        push(packed, starts, grads, d_out, None, view, units, pixels, eps)
        for g in range(params.shape[0]):
            row = f.gather(params, records, rects, starts, entries, grads, g, view)
            for j in ti.static(range(binning.GEOMETRY + channels)):
                d_params[g, j] = row[j]

    return SimpleNamespace(
        measure=measure,
        fill=fill,
        forward=forward,
        backward=backward,
        view_type=view_type,
        elements=f.elements,
    )
