"""From the gradient of one Gaussian to that of its parameters and a step of Adam, on every device.

The first five numbers of a gradient come as sums over pixels of h u, h v, h u^2, h u v, h v^2 with
h = dL/dq, where (u, v) is the whitened offset; see `binning.py`.
"""

from types import SimpleNamespace
from typing import Any, NamedTuple

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


class Rates(NamedTuple):
    """The same numbers as `ADAM` where a kernel takes them one by one."""

    xy: Any
    log_scale: Any
    theta: Any
    color: Any
    beta1: Any
    beta2: Any
    epsilon: Any
    correction2: Any


def make(variant: Variant) -> SimpleNamespace:
    """Return the functions from gradients to parameters."""
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
    def rate_of(rates: ti.template(), j: ti.template()):
        """The learning rate of column j, divided by Adam's correction of its first average."""
        rate = rates.color
        if ti.static(j < 2):
            rate = rates.xy
        elif ti.static(j < GEOMETRY - 1):
            rate = rates.log_scale
        elif ti.static(j < GEOMETRY):
            rate = rates.theta
        return rate

    @ti.func
    def moved(params, exp_avg, exp_avg_sq, row, rate, rates: ti.template()):
        """The averages and the parameters after one step, of one column or of a row of them."""
        m = rates.beta1 * exp_avg + (1 - rates.beta1) * row
        v = rates.beta2 * exp_avg_sq + (1 - rates.beta2) * row * row
        value = params - rate * m / (ti.sqrt(v * rates.correction2) + rates.epsilon)
        return m, v, value

    @ti.func
    def adam(params, exp_avg, exp_avg_sq, row, rates: ti.template()):
        """Return the averages and the parameters after one step, and whether these are finite."""
        rate = grad_row(rates.color)
        for j in ti.static(range(GEOMETRY)):
            rate[j] = rate_of(rates, j)
        m, v, value = moved(params, exp_avg, exp_avg_sq, row, rate, rates)
        finite = 1
        for j in ti.static(range(columns)):
            finite &= ti.cast(is_finite(value[j]), ti.i32)
        return m, v, value, finite

    return SimpleNamespace(
        of_parameters=of_parameters, adam=adam, moved=moved, rate_of=rate_of, is_finite=is_finite
    )
