"""Learning rates and Adam's memory in the course of a fit."""

from __future__ import annotations

import math

from taichi2dgs.fitting.options import FitOptions

# While the memory grows, step n forgets a share FORGETS / n of Adam's averages, first of gradients,
# then of their squares: about as much as the gradients of steps long past are worth. It is never
# more than 1 - LEAST, and in the end 1 - beta.
FORGETS = (12.0, 10.0)
LEAST = (0.5, 0.6)
XY_BEGINS, XY_STEPS = 0.5, 60  # the rate of centres begins at this share, and is whole then


def falling(used: float) -> float:
    """Return the fraction of the learning rates at a share of the budget: half a cosine.

    >>> [round(falling(used), 3) for used in (0, 0.25, 0.5, 1)]
    [1.0, 0.854, 0.5, 0.0]
    """
    return 0.5 * (1 + math.cos(math.pi * used))


class Schedule:
    """What each step of a fit goes by.

    Args:
        options: of the fit.
    """

    def __init__(self, options: FitOptions) -> None:
        self.options = options
        self._products = [(1.0, 1.0)]  # of the betas of steps 1 to n

    def betas(self, number: int) -> tuple[float, float]:
        """Return Adam's beta1 and beta2 in step `number`, from 1."""
        betas = self.options.beta1, self.options.beta2
        if not self.options.growing_memory:
            return betas
        first, second = (
            min(beta, max(least, 1 - forgets / number))
            for beta, least, forgets in zip(betas, LEAST, FORGETS, strict=True)
        )
        return first, second

    def rates(self, number: int, share: float) -> dict[str, float]:
        """Return what step `number`, from 1, goes by, at a share of the learning rates.

        The names are those in `kernels/update.py`.

        An average that began with zeros has weights that add up to 1 - beta(1) ... beta(n) after n
        steps; what it is divided by goes into the rates, and into `correction2`.
        """
        o, number = self.options, max(number, 1)
        while len(self._products) <= number:
            step = len(self._products)
            (first, second), (beta1, beta2) = self._products[-1], self.betas(step)
            self._products.append((first * beta1, second * beta2))
        first, second = self._products[number]
        beta1, beta2 = self.betas(number)
        rate = share / (1 - first)
        begun = min(1.0, XY_BEGINS + (1 - XY_BEGINS) * number / XY_STEPS)
        return {
            "xy": o.xy * rate * (begun if o.growing_memory else 1.0),
            "log_scale": o.log_scale * rate,
            "theta": o.theta * rate,
            "color": o.color * rate,
            "beta1": beta1,
            "beta2": beta2,
            "epsilon": o.epsilon,
            "correction2": 1 / (1 - second),
        }
