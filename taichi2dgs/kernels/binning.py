"""Tile binning: which Gaussians can touch which tile.

Everything here only narrows the search. Extents are padded, and the exact support test is made
once per pixel in `splat.py`, so no result depends on the tile grid.

Each tile's list is in index order. Ties in the top-K and the order of every sum follow from that,
on every backend.

Arrays (N Gaussians, T tiles, E entries, C channels):
    params [N, 5 + C], records [N, 9], rects [N, 4], counts [T], starts [T + 1], partial [~sqrt T],
    entries [E] (the Gaussian of each entry), packed [E] of 9 + C (its record and colour).
"""

from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels import maths
from taichi2dgs.kernels.variant import Variant

# Columns of the parameters of a Gaussian: x, y, three of its shape, then the colour. The shape is
# "scale-rotation": two log-scales and theta; or "cholesky": l0, l1, l2 of Sigma = L L^T with
# L = [[l0, 0], [l1, l2]], as GaussianImage has it.
GEOMETRY = 5
# Columns of a Gaussian's record, before the colour. With d = point - centre, the whitened offset is
# (u, v) = S^-1 R^T d and the squared Mahalanobis distance is q = u^2 + v^2 (paper Eq. 1 and 2);
# unlike the expanded conic, this form does not cancel for thin rotated Gaussians. At height dy the
# support spans x - SHEAR dy +- sqrt(REACH - FALL dy^2).
X, Y, UX, UY, VX, VY, SHEAR, REACH, FALL = range(9)
RECORD = 9

# A float32 overflows when a scale of exp(44) is squared. At exp(40) a Gaussian is already level
# over any picture, and at exp(-40) a point.
MAX_LOG_SCALE = 40.0
FAR = 1.0e9  # pixel coordinates are clamped to this before they become integers
EMPTY = 1.0e30  # the squared distance of what does not cover a pixel
PAD_PIXELS = 1.0e-3  # far above the rounding of an extent, far below a pixel
PAD_RELATIVE = 1.0e-4

MAX_ENTRIES = 1 << 26  # the prefix sum stops here: it, and one more count, are below 2^31

array = ti.template()  # how arrays enter a ti.func


def view_type(real):
    """The kernel argument that says which pixels are rendered, and how they are tiled."""
    integers = "left top width height tile_w tile_h tiles_x tiles_y"
    return ti.types.struct(
        pitch_x=real, pitch_y=real, cutoff=real, **dict.fromkeys(integers.split(), ti.i32)
    )


def make(variant: Variant) -> SimpleNamespace:
    """Return the functions that find the tiles of Gaussians."""
    real, channels = variant.real, variant.channels
    row = ti.types.vector(RECORD, real)
    m = maths.make(real)

    @ti.func
    def bounded(log_scale):
        return ti.math.clamp(log_scale, -real(MAX_LOG_SCALE), real(MAX_LOG_SCALE))

    # Both functions return (ux, uy, vx, vy), its determinant, and the variances along x and y.
    @ti.func
    def scale_rotation(params: array):
        co, si = m.cos_sin(params[4])
        s0, s1 = m.exp(bounded(params[2])), m.exp(bounded(params[3]))
        along_x = co * co * s0 * s0 + si * si * s1 * s1
        along_y = si * si * s0 * s0 + co * co * s1 * s1
        return ti.Vector([co / s0, si / s0, -si / s1, co / s1]), 1 / (s0 * s1), along_x, along_y

    @ti.func
    def cholesky(params: array):
        a, b, c = params[2], params[3], params[4]
        white = ti.Vector([1 / a, real(0.0), -b / (a * c), 1 / c])
        return white, 1 / ti.abs(a * c), a * a, b * b + c * c

    whitening = {"scale-rotation": scale_rotation, "cholesky": cholesky}[variant.shape]

    @ti.func
    def record_of(params: array, cutoff):
        """The record of a Gaussian of these parameters, and half the extents of its support."""
        white, determinant, along_x, along_y = whitening(params)
        ux, uy, vx, vy = white[0], white[1], white[2], white[3]
        square = ux * ux + vx * vx
        aspect = determinant / square
        shear = (ux * uy + vx * vy) / square
        reach = cutoff * cutoff / square
        record = row([params[0], params[1], ux, uy, vx, vy, shear, reach, aspect * aspect])
        return record, cutoff * ti.sqrt(along_x), cutoff * ti.sqrt(along_y)

    @ti.func
    def pixel_range(centre, half, pitch, first, count):
        """First and one-past-last pixel, counted from `first`, whose centre may be covered."""
        middle, reach = centre / pitch - real(0.5), half / pitch
        reach += real(PAD_PIXELS) + real(PAD_RELATIVE) * reach
        low = ti.math.clamp(ti.ceil(middle - reach), -real(FAR), real(FAR))
        high = ti.math.clamp(ti.floor(middle + reach), -real(FAR), real(FAR))
        begin = ti.max(ti.cast(low, ti.i32) - first, 0)
        end = ti.min(ti.cast(high, ti.i32) - first + 1, count)
        return begin, end

    @ti.func
    def rect_of(record, half_x, half_y, view):
        """Tiles that the support may touch: first column, first row, columns, rows."""
        x0, x1 = pixel_range(record[X], half_x, view.pitch_x, view.left, view.width)
        y0, y1 = pixel_range(record[Y], half_y, view.pitch_y, view.top, view.height)
        rect = ti.Vector([0, 0, 0, 0])
        if x0 < x1 and y0 < y1:
            rect[0] = x0 // view.tile_w
            rect[1] = y0 // view.tile_h
            rect[2] = (x1 - 1) // view.tile_w + 1 - rect[0]
            rect[3] = (y1 - 1) // view.tile_h + 1 - rect[1]
        return rect

    @ti.func
    def tile_of(rects: array, g, n, view):
        """The n-th tile, row by row, of the rectangle of Gaussian g."""
        down = n // rects[g, 2]
        return (rects[g, 1] + down) * view.tiles_x + rects[g, 0] + n - down * rects[g, 2]

    @ti.func
    def project(params: array, records: array, rects: array, counts: array, view):
        """Write records and tile rectangles, and count the entries of each tile.

        A rectangle is (first column, first row, columns, rows) in tiles, empty when off-screen.
        """
        for t in range(view.tiles_x * view.tiles_y):
            counts[t] = 0
        for g in range(params.shape[0]):
            shaped = [params[g, j] for j in ti.static(range(GEOMETRY))]
            record, half_x, half_y = record_of(shaped, view.cutoff)
            for j in ti.static(range(RECORD)):
                records[g, j] = record[j]
            rect = rect_of(record, half_x, half_y, view)
            for j in ti.static(range(4)):
                rects[g, j] = rect[j]
            for n in range(rect[2] * rect[3]):
                ti.atomic_add(counts[tile_of(rects, g, n, view)], 1)

    @ti.func
    def scan(counts: array, starts: array, partial: array, view):
        """Exclusive prefix sum of counts into starts, in chunks of about sqrt(T) tiles.

        Leaves zeros in counts, which serve as cursors when the lists are filled.
        """
        tiles = view.tiles_x * view.tiles_y
        chunk = (tiles + partial.shape[0] - 1) // partial.shape[0]
        for b in range(partial.shape[0]):
            total = 0
            for t in range(b * chunk, ti.min((b + 1) * chunk, tiles)):
                total = ti.min(total + counts[t], MAX_ENTRIES)
            partial[b] = total
        for b in range(partial.shape[0]):
            total = 0
            for j in range(b):
                total = ti.min(total + partial[j], MAX_ENTRIES)
            for t in range(b * chunk, ti.min((b + 1) * chunk, tiles)):
                starts[t] = total
                total = ti.min(total + counts[t], MAX_ENTRIES)
                counts[t] = 0
            if b == partial.shape[0] - 1:
                starts[tiles] = total

    @ti.func
    def fits(starts: array, packed: array, view):
        """Whether the capacity of the lists suffices; where not, nothing may touch them."""
        return starts[view.tiles_x * view.tiles_y] <= packed.shape[0]

    @ti.func
    def insertion_sort(entries: array, begin, end):
        """Sort a list that comes nearly sorted, as lists filled in parallel order do."""
        for i in range(begin + 1, end):
            g = entries[i]
            j = i
            while j > begin:
                if entries[j - 1] < g:
                    break
                entries[j] = entries[j - 1]
                j -= 1
            entries[j] = g

    @ti.func
    def fill(
        params: array,
        records: array,
        rects: array,
        counts: array,
        starts: array,
        entries: array,
        packed: array,
        view,
    ):
        """Write every tile's list in index order and pack its records; nothing on overflow."""
        for g in range(params.shape[0]):
            if fits(starts, packed, view):
                for n in range(rects[g, 2] * rects[g, 3]):
                    t = tile_of(rects, g, n, view)
                    entries[starts[t] + ti.atomic_add(counts[t], 1)] = g
        for t in range(view.tiles_x * view.tiles_y):
            if fits(starts, packed, view):
                insertion_sort(entries, starts[t], starts[t + 1])
                for e in range(starts[t], starts[t + 1]):
                    for j in ti.static(range(RECORD)):
                        packed[e][j] = records[entries[e], j]
                    for c in ti.static(range(channels)):
                        packed[e][RECORD + c] = params[entries[e], GEOMETRY + c]

    @ti.func
    def entry_of(starts: array, entries: array, t, g):
        """The entry of Gaussian g in the list of tile t, by bisection."""
        low, high = starts[t], starts[t + 1] - 1
        while low < high:
            middle = (low + high) // 2
            if entries[middle] < g:
                low = middle + 1
            else:
                high = middle
        return low

    return SimpleNamespace(
        bounded=bounded,
        record_of=record_of,
        rect_of=rect_of,
        project=project,
        scan=scan,
        fits=fits,
        fill=fill,
        tile_of=tile_of,
        entry_of=entry_of,
    )
