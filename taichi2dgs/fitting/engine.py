"""State of one fit on the device, and the launches that advance and measure it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from taichi2dgs import limits, runtime
from taichi2dgs.fitting.options import FitOptions
from taichi2dgs.kernels import update
from taichi2dgs.metrics import psnr_of_mse
from taichi2dgs.rendering.passes import kind
from taichi2dgs.rendering.view import View

_made: set[tuple] = set()  # kinds of fits that this process has compiled, or loaded


class Engine:
    """Taichi-owned state of one fit: parameters, moments, target, and `done`, the steps made.

    Args:
        target: [H, W, C]
        params: packed. [N, 5 + C]
        options: learning rates, and how to blend.
        frozen: which Gaussians stay as they are. bool [N]
        measured: whether the error is known before the first step.
    """

    def __init__(
        self,
        target: Tensor,
        params: Tensor,
        options: FitOptions,
        frozen: Tensor | None = None,
        measured: bool = True,
    ) -> None:
        self.options, self.done = options, 0
        n, columns = params.shape
        height, width, channels = target.shape
        limits.check_fit(f"gaussians of {n} for {height}x{width}", height, width, channels, n)
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
        if measured:
            self.step(0, 0.0)  # compiles and measures; no step 0 is ever due, so nothing moves
            self.score()

    @property
    def params(self) -> Tensor:
        """The packed parameters, read back from the device. [N, 5 + C]"""
        with runtime.launching(self.work.owner):
            return torch.from_numpy(self.packed.to_numpy())

    def step(self, number: int, rate: float) -> None:
        """Launch step `number`, from 1, at a fraction of the learning rates."""
        o = self.options
        rate /= 1 - o.beta1 ** max(number, 1)
        rates = update.ADAM(
            xy=o.xy * rate,
            log_scale=o.log_scale * rate,
            theta=o.theta * rate,
            color=o.color * rate,
            beta1=o.beta1,
            beta2=o.beta2,
            epsilon=o.epsilon,
            correction2=1 / (1 - o.beta2 ** max(number, 1)),
        )
        with runtime.launching(self.work.owner):
            self.work.step(
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
            return self.work.make_room()

    def recover(self) -> None:
        """Make the lists anew, which an exception may have left of different lengths."""
        with runtime.launching():
            runtime.sync()
            self.work.reserve(self.work.capacity)
        self.poll()

    def score(self) -> None:
        """Measure the error of the parameters as they are."""
        while True:
            with runtime.launching(self.work.owner):
                self.work.score(self.packed, self.target, self.losses)
            if self.poll():
                return

    def psnr(self) -> float:
        """PSNR in dB that the last launch measured."""
        with runtime.launching(self.work.owner):
            total = self.losses.to_numpy().sum(dtype=np.float64)
        return psnr_of_mse(float(total) / self.values)
