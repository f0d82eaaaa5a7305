"""Tile binning: what of a Gaussian says which tiles it can touch, on every device.

Everything here only narrows the search. Extents are padded, and the exact support test is made
for each pixel, so no result depends on the tile grid. The lists of tiles are made by `lists.py` on
GPUs and by `cores_lists.py` on cores, each in index order.
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
PAD_PIXELS = 1.0e-3  # far above the rounding of an extent, far below a pixel
PAD_RELATIVE = 1.0e-4

EMPTY = 1.0e30  # the squared distance of what does not cover a pixel
MAX_ENTRIES = 1 << 26  # the prefix sum stops here: it, and one more count, are below 2^31

array = ti.template()  # how arrays enter a ti.func


def view_type(real):
    """The kernel argument that says how pictures are sampled, and how many tiles they are.

    All Gaussians are seen (shift_x, shift_y) away from where they are, in units of the picture.
    """
    reals = "pitch_x pitch_y cutoff shift_x shift_y"
    integers = "left top tile_w tile_h tiles"
    return ti.types.struct(
        **dict.fromkeys(reals.split(), real), **dict.fromkeys(integers.split(), ti.i32)
    )


def make(variant: Variant) -> SimpleNamespace:
    """Return the functions that find the tiles of Gaussians."""
    real = variant.real
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
    def record_of(params: array, view: ti.template()):
        """The record of a Gaussian of these parameters, and half the extents of its support."""
        cutoff = view.cutoff
        white, determinant, along_x, along_y = whitening(params)
        ux, uy, vx, vy = white[0], white[1], white[2], white[3]
        square = ux * ux + vx * vx
        aspect = determinant / square
        shear = (ux * uy + vx * vy) / square
        reach = cutoff * cutoff / square
        x, y = params[0] + view.shift_x, params[1] + view.shift_y
        record = row([x, y, ux, uy, vx, vy, shear, reach, aspect * aspect])
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
    def rect_of(record, half_x, half_y, view: ti.template(), width, height, tile_w, tile_h):
        """Tiles of a picture that the support may touch: first column, row, columns, rows."""
        x0, x1 = pixel_range(record[X], half_x, view.pitch_x, view.left, width)
        y0, y1 = pixel_range(record[Y], half_y, view.pitch_y, view.top, height)
        rect = ti.Vector([0, 0, 0, 0])
        if x0 < x1 and y0 < y1:
            rect[0] = x0 // tile_w
            rect[1] = y0 // tile_h
            rect[2] = (x1 - 1) // tile_w + 1 - rect[0]
            rect[3] = (y1 - 1) // tile_h + 1 - rect[1]
        return rect

    return SimpleNamespace(
        bounded=bounded, record_of=record_of, pixel_range=pixel_range, rect_of=rect_of
    )  # fmt: skip
