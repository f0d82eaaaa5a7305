"""exp, sin and cos with the same accuracy on every backend.

Vulkan lets a driver be off by 2^-11 in sin and cos, and some are nearly as coarse in exp. In
float32 these are computed here by range reduction and Taylor series (relative error about 1e-7);
in float64, which only accurate backends have, by the backend.
"""

from types import SimpleNamespace

import taichi as ti

LOG2_E = 1.4426950408889634
# Constants in two or three parts, of which the first have few bits, so that multiples are exact.
LN2 = (0.693359375, -2.12194440054690583e-4)
HALF_PI = (1.5703125, 4.837512969970703125e-4, 7.549789948768648e-8)
TWO_OVER_PI = 0.6366197723675814


def make(real) -> SimpleNamespace:
    """Return `exp`, for scalars and vectors, and `cos_sin`, for one float type."""

    @ti.func
    def exp(x):
        y = x
        if ti.static(real == ti.f64):
            y = ti.exp(x)
        else:
            y = times_power_of_two(x, ti.math.clamp(ti.floor(x * LOG2_E + 0.5), -126.0, 127.0))
        return y

    @ti.func
    def exp_within(x):
        """exp of what is known to lie between -87 and 87: clamping costs as much as the rest."""
        y = x
        if ti.static(real == ti.f64):
            y = ti.exp(x)
        else:
            y = times_power_of_two(x, ti.floor(x * LOG2_E + 0.5))
        return y

    @ti.func
    def exp_half(q):
        """exp(-q / 2) for squared distances below 170, in the fewest instructions."""
        y = q
        if ti.static(real == ti.f64):
            y = ti.exp(real(-0.5) * q)
        else:
            x = q * (-0.5 * LOG2_E)
            n = ti.floor(x + 0.5)
            bits = ti.bit_cast(ti.cast(power_of_two(x - n), ti.f32), ti.i32)
            y = ti.bit_cast(bits + (ti.cast(n, ti.i32) << 23), ti.f32)
        return y

    @ti.func
    def power_of_two(r):
        """2^r for |r| <= 1/2, by the polynomial of least relative error, 2e-7."""
        return 1.0 + r * (0.6931472 + r * (0.24022107 + r * (
            0.055503324 + r * (0.0096718751 + r * 0.0013398874))))  # fmt: skip

    @ti.func
    def times_power_of_two(x, n):
        """exp(x) as 2^n times a series in the rest."""
        r = (x - n * LN2[0]) - n * LN2[1]
        series = 1 + r * (1 + r * (1 / 2 + r * (1 / 6 + r * (1 / 24 + r * (
            1 / 120 + r * (1 / 720 + r * (1 / 5040)))))))  # fmt: skip
        return series * ti.bit_cast((ti.cast(n, ti.i32) + 127) << 23, ti.f32)

    @ti.func
    def cos_sin(angle):
        """The cosine and the sine of an angle in radians."""
        co, si = angle, angle
        if ti.static(real == ti.f64):
            co, si = ti.cos(angle), ti.sin(angle)
        else:
            n = ti.floor(angle * TWO_OVER_PI + 0.5)
            r = ((angle - n * HALF_PI[0]) - n * HALF_PI[1]) - n * HALF_PI[2]
            z = r * r
            odd = r * (
                1 - z * (1 / 6) * (1 - z * (1 / 20) * (1 - z * (1 / 42) * (1 - z * (1 / 72))))
            )
            even = 1 - z * (1 / 2) * (
                1 - z * (1 / 12) * (1 - z * (1 / 30) * (1 - z * (1 / 56) * (1 - z * (1 / 90))))
            )
            quadrant = ti.cast(n, ti.i32) & 3
            swap = (quadrant & 1) == 1
            co, si = ti.select(swap, odd, even), ti.select(swap, even, odd)
            co = ti.select(quadrant == 1 or quadrant == 2, -co, co)
            si = ti.select(quadrant >= 2, -si, si)
        return co, si

    return SimpleNamespace(exp=exp, exp_within=exp_within, exp_half=exp_half, cos_sin=cos_sin)
