"""State of one fit on the device, and the launches that advance and measure it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from taichi2dgs import limits, runtime
from taichi2dgs.fitting.options import FitOptions
from taichi2dgs.metrics import psnr_of_mse
from taichi2dgs.rendering.passes import kind
from taichi2dgs.rendering.view import View

# Fraction of the learning rates above which every step selects: what moves fast leaves a selection.
SETTLED = 0.8
_made: set[tuple] = set()  # kinds of fits that this process has compiled, or loaded


class Engine:
    """Taichi-owned state of one fit: parameters, moments, target, and `done`, the steps made."""

    def __init__(
        self, target: Tensor, params: Tensor, options: FitOptions, frozen: Tensor | None = None
    ) -> None:
        self.options, self.done = options, 0
        self.stale = True  # whether the next step selects anew, whatever its number
        n, columns = params.shape
        height, width, channels = target.shape
        what = f"gaussians of {n} for {height}x{width}"
        limits.check_fit(what, height, width, channels, n, runtime.is_gpu())
        self.values = target.numel()
        settings = options.settings
        view = View.of((height, width), None, None)
        with runtime.launching():
            key = (runtime.owner(), channels, settings.top_k, settings.blend)
            if key not in _made:
                runtime.log.info("compiling the fit of %d channels, or loading it", channels)
                _made.add(key)
            self.work = kind()(n, channels, view, settings)
            self.packed = self.work.rows(params.float().cpu().contiguous().numpy())
            self.exp_avg, self.exp_avg_sq = (
                self.work.rows(np.zeros((n, columns), np.float32)) for _ in range(2)
            )
            self.frozen = runtime.zeros("i32", (n,))
            if frozen is not None:
                self.frozen.from_numpy(frozen.cpu().numpy().astype(np.int32))
            self.progress = runtime.zeros("i32", (2,))
            self.losses = runtime.zeros("f32", (self.work.units,))
            self.target = self.work.target(target)
        self.step(0, 0.0)  # compiles and measures; no step 0 is ever due, so nothing moves
        if options.reselect > 1:
            self._launch(0, 0.0, selects=False)
        self.score()

    @property
    def params(self) -> Tensor:
        """The packed parameters, read back from the device. [N, 5 + C]"""
        with runtime.launching(self.work.owner):
            return torch.from_numpy(self.packed.to_numpy())

    def step(self, number: int, rate: float) -> None:
        """Launch step `number`, from 1, at a fraction of the learning rates."""
        due = (number - 1) % self.options.reselect == 0
        selects = self.stale or due or rate > SETTLED
        self.stale = False
        self._launch(number, rate, selects)

    def _launch(self, number: int, rate: float, selects: bool) -> None:
        o = self.options
        rate /= 1 - o.beta1 ** max(number, 1)
        rates = {
            "xy": o.xy * rate,
            "log_scale": o.log_scale * rate,
            "theta": o.theta * rate,
            "color": o.color * rate,
            "beta1": o.beta1,
            "beta2": o.beta2,
            "epsilon": o.epsilon,
            "correction2": 1 / (1 - o.beta2 ** max(number, 1)),
        }  # in the order of `kernels/update.py`
        with runtime.launching(self.work.owner):
            self.work.step(
                selects=selects,
                keeps=o.reselect > 1,
                params=self.packed,
                exp_avg=self.exp_avg,
                exp_avg_sq=self.exp_avg_sq,
                frozen=self.frozen,
                progress=self.progress,
                target=self.target,
                losses=self.losses,
                rates=rates,
                number=number,
            )

    def poll(self) -> bool:
        """Wait for the device, see how far it got, and make room where it lacked some.

        Returns:
            Whether the last launch had room: if not, it has measured nothing.

        Raises:
            FloatingPointError: a parameter is not finite.
        """
        with runtime.launching(self.work.owner):
            self.done, bad = (int(number) for number in self.progress.to_numpy())
            if bad:
                raise FloatingPointError(
                    f"a parameter is not finite after step {bad}; lower the learning rates"
                )
            had_room = self.work.make_room()
            self.stale |= not had_room
            return had_room

    def recover(self) -> None:
        """Make the lists anew, which an exception may have left of different lengths."""
        with runtime.launching():
            runtime.sync()
            self.work.reserve(self.work.capacity)
            self.stale = True
        self.poll()

    def score(self) -> None:
        """Measure the error of the parameters as they are, exactly.

        Step 0 does it, which is never due: a kernel that only measures would have to be compiled.
        """
        self.stale = True
        while True:
            self._launch(0, 0.0, selects=True)
            if self.poll():
                return

    def psnr(self) -> float:
        """PSNR in dB that the last launch measured."""
        with runtime.launching(self.work.owner):
            total = self.losses.to_numpy().sum(dtype=np.float64)
        return psnr_of_mse(float(total) / self.values)
