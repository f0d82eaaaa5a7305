"""Noise as of rounding, so that a fit finds parameters that rounding harms less.

A long fit balances large differences of neighbours' colours and shapes against each other, which
each of them being rounded by itself upsets: with 2,000 Gaussians on 512x512, fits of 1000 steps
were 0.1 dB above those of 400, and their files of "medium" quality 0.06 dB below. So each step sees
all parameters a little off, by other random numbers than the last, and goes by the gradient there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from taichi2dgs import runtime
from taichi2dgs.fitting.picture import Picture
from taichi2dgs.storage.quantise import Precision, quantise

# Of the steps to which parameters are rounded. Less than all that rounding does: what is not yet
# rounded makes up for a part of it (`refine.py`).
AMOUNT = 0.6


class Noise:
    """The noise that the parameters of a fit have at the moment: that of one step, or none.

    Args:
        work: the workspace of the fit.
        pictures: of the fit; frozen Gaussians have no noise.
        precision: to which parameters are rounded; None for no noise in any step.
    """

    def __init__(self, work: Any, pictures: Sequence[Picture], precision: Precision | None) -> None:
        self.work, self.pictures, self.precision = work, pictures, precision
        self.number = 0  # of the step that was asked for last; 0 for no noise
        self.amounts: Any = None  # on the device, by what the parameters were when it was asked for
        self.held = None if precision is None else runtime.zeros("i32", (1,))  # whose they have

    def change(self, packed: Any, number: int) -> None:
        """Put the noise of step `number` in place of what the parameters have; 0 for none."""
        if self.precision is None:
            return
        if self.amounts is None:
            self.amounts = self.work.rows(self._measured(packed.to_numpy(), self.precision))
        self.number = number
        self.work.add_noise(params=packed, amounts=self.amounts, held=self.held, number=number)

    def forget(self) -> None:
        """Measure anew how much there is to be, as Gaussians have moved; there must be none now."""
        self.amounts = None

    def _measured(self, params: np.ndarray, precision: Precision) -> np.ndarray:
        """Return how far from each other the noise of a parameter may be. [N, 5 + C]"""
        first, parts = 0, []
        for picture in self.pictures:
            own = params[first : first + len(picture.params)]
            amounts = AMOUNT * quantise(own, picture.size, precision).steps()
            if picture.frozen is not None:
                amounts[picture.frozen.cpu().numpy()] = 0.0
            parts.append(amounts)
            first += len(own)
        return np.concatenate(parts).astype(np.float32)
