"""From the gradient of one Gaussian to that of its parameters and a step of Adam, on every device.

The first five numbers of a gradient come as sums over pixels of h u, h v, h u^2, h u v, h v^2 with
h = dL/dq, where (u, v) is the whitened offset; see `binning.py`.
"""

from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels import binning, maths
from taichi2dgs.kernels.binning import GEOMETRY, UX, UY, VX, VY
from taichi2dgs.kernels.variant import Variant

ADAM = ti.types.struct(
    xy=ti.f32,
    log_scale=ti.f32,
    theta=ti.f32,
    color=ti.f32,
    beta1=ti.f32,
    beta2=ti.f32,
    epsilon=ti.f32,
    correction2=ti.f32,
)


def make(variant: Variant) -> SimpleNamespace:
    """Return `of_parameters` and `adam`."""
    real, channels = variant.real, variant.channels
    m, bins = maths.make(real), binning.make(variant)
    columns = GEOMETRY + channels
    grad_row = ti.types.vector(columns, real)

    @ti.func
    def of_parameters(params, record, row):
        """Turn the sums of a Gaussian into the gradient of its parameters.

        The squared distance is q = u^2 + v^2. By scales and rotation, du/d(log s0) = -u,
        dv/d(log s1) = -v, du/d(theta) = v s1 / s0 and dv/d(theta) = -u s0 / s1. By Cholesky,
        u = dx / l0 and v = (dy - l1 u) / l2, so that du/d(l0) = -u / l0 and
        dv/d(l0, l1, l2) = (l1 u / l0, -u, -v) / l2.
        """
        hu, hv, huu, huv, hvv = row[0], row[1], row[2], row[3], row[4]
        row[0] = -2 * (record[UX] * hu + record[VX] * hv)
        row[1] = -2 * (record[UY] * hu + record[VY] * hv)
        if ti.static(variant.shape == "scale-rotation"):
            ratio = m.exp(bins.bounded(params[3]) - bins.bounded(params[2]))
            row[2], row[3] = -2 * huu, -2 * hvv
            row[4] = 2 * huv * (ratio - 1 / ratio)
        else:
            a, b, c = params[2], params[3], params[4]
            row[2] = 2 * (huv * b / c - huu) / a
            row[3], row[4] = -2 * huv / c, -2 * hvv / c
        return row

    @ti.func
    def is_finite(x):
        """Whether a number is finite, by its bits: compilers may assume that there are no NaNs."""
        return (ti.bit_cast(x, ti.i32) & 0x7F800000) != 0x7F800000

    @ti.func
    def adam(params, exp_avg, exp_avg_sq, row, rates):
        """Return the averages and the parameters after one step, and whether these are finite.

        The learning rates in `rates` are already divided by Adam's correction of its first average.
        """
        rate = grad_row(rates.color)
        for j in ti.static(range(GEOMETRY)):
            rate[j] = rates.xy if ti.static(j < 2) else rates.log_scale
        rate[GEOMETRY - 1] = rates.theta
        m = rates.beta1 * exp_avg + (1 - rates.beta1) * row
        v = rates.beta2 * exp_avg_sq + (1 - rates.beta2) * row * row
        value = params - rate * m / (ti.sqrt(v * rates.correction2) + rates.epsilon)
        finite = 1
        for j in ti.static(range(columns)):
            finite &= ti.cast(is_finite(value[j]), ti.i32)
        return m, v, value, finite

    return SimpleNamespace(of_parameters=of_parameters, adam=adam)
