"""What a step makes of how far a pixel is off, on every device.

The residual e of a channel of a pixel is its colour minus the target. What it adds to the loss, and
with what slope it goes back to the Gaussians:

    loss            of each channel             slope
    l2              e^2 / 2                     e
    l1              |e|                         1, 0 or -1, the sign of e
    charbonnier     sqrt(e^2 + SOFT^2)          e / sqrt(e^2 + SOFT^2)

Where pixels have weights, both are multiplied by the pixel's, which the target holds behind its
channels. Whatever the loss is, squared errors are what is reported.
"""

from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels.variant import Variant

SOFT = 1.0e-3  # residuals far below it count as in l2, those far above it as in l1


def make(variant: Variant, numbers) -> SimpleNamespace:
    """Return functions of residuals and weights that are `numbers`: a float, or lanes of them."""

    @ti.func
    def slope(error, weight):
        """The derivative of the loss by a colour."""
        result = error
        if ti.static(variant.loss == "l1"):
            above = ti.select(error > 0, numbers(1.0), numbers(0.0))
            result = ti.select(error < 0, numbers(-1.0), above)
        elif ti.static(variant.loss == "charbonnier"):
            result = error / ti.sqrt(error * error + numbers(SOFT * SOFT))
        if ti.static(variant.weighted):
            result *= weight
        return result

    @ti.func
    def squared(error, weight):
        """What a channel adds to the squared error."""
        result = error * error
        if ti.static(variant.weighted):
            result *= weight
        return result

    return SimpleNamespace(slope=slope, squared=squared)
