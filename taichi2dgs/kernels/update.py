"""What becomes of the gradient of one Gaussian, the same on every device: its parameters' gradient,
and the step of Adam.

The first five numbers of a gradient come as sums over pixels of h u, h v, h u^2, h u v, h v^2 with
h = dL/dq, where (u, v) is the whitened offset; see `binning.py`.
"""

from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels import maths
from taichi2dgs.kernels.binning import GEOMETRY, UX, UY, VX, VY, array

ADAM = ti.types.struct(
    xy=ti.f32, log_scale=ti.f32, theta=ti.f32, color=ti.f32, beta1=ti.f32, beta2=ti.f32,
    epsilon=ti.f32, correction2=ti.f32,
)  # fmt: skip


def make(channels: int, real, shape: str = "scale-rotation") -> SimpleNamespace:
    """Return `of_parameters` and `adam` for one number of channels, float type and shape."""
    m = maths.make(real)
    columns = GEOMETRY + channels

    @ti.func
    def of_parameters(params: array, records: array, g, row):
        """Turn the sums of Gaussian g into the gradient of its parameters.

        With q = u^2 + v^2, du/d(log s0) = -u and du/d(theta) = v s1 / s0, and v has its own of
        both; with u = dx / l0 and v = (dy - l1 u) / l2, du/d(l0) = -u / l0 and
        dv/d(l0, l1, l2) = (l1 u / l0, -u, -v) / l2.
        """
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

    @ti.func
    def is_finite(x):
        """Read from the bits: compilers may assume that there are no NaNs."""
        return (ti.bit_cast(x, ti.i32) & 0x7F800000) != 0x7F800000

    @ti.func
    def adam(params: array, first: array, second: array, progress: array, g, row, rates, step):
        """Update Gaussian g in place; `rates` hold bias-corrected learning rates.

        All is computed before anything is stored, so that the columns become vectors on CPU.
        """
        rate = ti.Vector([rates.color] * columns)
        for j in ti.static(range(GEOMETRY)):
            rate[j] = rates.xy if ti.static(j < 2) else rates.log_scale
        rate[GEOMETRY - 1] = rates.theta
        m = rates.beta1 * row_of(first, g) + (1 - rates.beta1) * row
        v = rates.beta2 * row_of(second, g) + (1 - rates.beta2) * row * row
        value = row_of(params, g) - rate * m / (ti.sqrt(v * rates.correction2) + rates.epsilon)
        finite = True
        for j in ti.static(range(columns)):
            finite = finite and is_finite(value[j])
        put_row(first, g, m)
        put_row(second, g, v)
        put_row(params, g, value)
        if not finite and progress[1] == 0:
            progress[1] = step

    @ti.func
    def row_of(values: array, g):
        return ti.Vector([values[g, j] for j in ti.static(range(columns))])

    @ti.func
    def put_row(values: array, g, row):
        for j in ti.static(range(columns)):
            values[g, j] = row[j]

    return SimpleNamespace(of_parameters=of_parameters, adam=adam, put_row=put_row)
