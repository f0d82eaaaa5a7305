"""When a fit ends, and the clock that says so."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

from taichi2dgs import runtime
from taichi2dgs.checks import number, shown, whole

# Steps that a second has room for, with 70,000 Gaussians on two cores and with 50,000 on a GPU that
# is a few times slower than an H100.
CORES, GPUS = 20, 500


@dataclass(frozen=True)
class Budget:
    """How long a fit may go on: for so many steps, for so many seconds, or until one of them ends.

    Raises:
        ValueError: a number is out of range, or neither is given.
    """

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.steps is None and self.seconds is None:
            raise ValueError("steps and seconds are both None; expected a budget")
        if self.steps is not None:
            object.__setattr__(self, "steps", whole(self.steps, "steps", 0))
        if self.seconds is not None:
            if not 0 <= number(self.seconds) < math.inf:
                raise ValueError(f"seconds={shown(self.seconds)}; expected 0 or more")
            object.__setattr__(self, "seconds", number(self.seconds))

    @property
    def foreseen(self) -> int:
        """Steps that there will be, or, where seconds decide, about as many: the same number on all
        cores, and on all GPUs, as starts go by it.

        >>> Budget(steps=50, seconds=10).foreseen
        50
        """
        limits = [] if self.steps is None else [self.steps]
        if self.seconds is not None:
            limits.append(math.ceil(self.seconds * (GPUS if runtime.is_gpu() else CORES)))
        return min(limits)

    def is_over(self, steps: int, seconds: float) -> bool:
        """Return whether so many steps or so many seconds have used it up."""
        return (self.steps is not None and steps >= self.steps) or (
            self.seconds is not None and seconds >= self.seconds
        )

    def used(self, steps: int, seconds: float) -> float:
        """Return the share, from 0 to 1, that steps or seconds have used, whichever is more.

        Of 100 steps and 10 seconds, 20 steps in 3 seconds have used 0.3.
        """
        share = steps / self.steps if self.steps else 0.0
        return min(1.0, max(share, seconds / self.seconds if self.seconds else 0.0))


class Clock:
    """Counts the seconds of a fit, without those in which it is stopped."""

    def __init__(self) -> None:
        self.began, self.excluded = time.perf_counter(), 0.0

    def elapsed(self) -> float:
        """Return the seconds that count."""
        return time.perf_counter() - self.began - self.excluded

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Leave out what is done within: measuring and reporting are no fitting."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self.excluded += time.perf_counter() - before
