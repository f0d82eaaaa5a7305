"""State of one fit on the device, and the launches that advance and measure it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from taichi2dgs import limits, runtime
from taichi2dgs.fitting.options import FitOptions
from taichi2dgs.kernels import step as step_kernels
from taichi2dgs.metrics import psnr_of_mse
from taichi2dgs.rendering.view import View
from taichi2dgs.rendering.workspace import Workspace, lanes


class Engine:
    """Taichi-owned state of one fit: parameters, moments, target, and `done`, the steps made."""

    def __init__(
        self, target: Tensor, params: Tensor, options: FitOptions, frozen: Tensor | None = None
    ) -> None:
        self.options, self.done = options, 0
        n, columns = params.shape
        height, width, channels = target.shape
        limits.check_fit(f"gaussians of {n} for {height}x{width}", height, width, channels, n)
        self.values = target.numel()
        settings = options.settings
        view = View.of((height, width), None, None)
        with runtime.launching():
            made = step_kernels.make.cache_info().misses
            self.kernels = step_kernels.make(channels, settings.top_k, settings.blend, lanes())
            if step_kernels.make.cache_info().misses > made:
                runtime.log.info("compiling the fit of %d channels, or loading it", channels)
            self.work = Workspace(self.kernels, n, channels, view, settings)
            self.state = runtime.array("f32", (n, columns))
            self.state.from_numpy(params.float().cpu().contiguous().numpy())
            self.exp_avg = runtime.zeros("f32", (n, columns))
            self.exp_avg_sq = runtime.zeros("f32", (n, columns))
            self.frozen = runtime.zeros("i32", (n,))
            if frozen is not None:
                self.frozen.from_numpy(frozen.cpu().numpy().astype(np.int32))
            self.progress = runtime.zeros("i32", (2,))
            self.losses = runtime.zeros("f32", (self.work.units,))
            self.target = runtime.array("f32", (height, width, channels))
            self.target.from_numpy(target.float().cpu().contiguous().numpy())
        self.step(0, 0.0)  # compiles and measures; no step 0 is ever due, so nothing moves
        self.score()

    @property
    def params(self) -> Tensor:
        """The packed parameters, read back from the device. [N, 5 + C]"""
        with runtime.launching(self.work.owner):
            return torch.from_numpy(self.state.to_numpy())

    def step(self, number: int, rate: float) -> None:
        """Launch step `number`, from 1, at a fraction of the learning rates."""
        w, o = self.work, self.options
        rate /= 1 - o.beta1 ** max(number, 1)
        rates = self.kernels.rates_type(
            xy=o.xy * rate, log_scale=o.log_scale * rate, theta=o.theta * rate,
            color=o.color * rate, beta1=o.beta1, beta2=o.beta2, epsilon=o.epsilon,
            correction2=1 / (1 - o.beta2 ** max(number, 1)),
        )  # fmt: skip
        with runtime.launching(self.work.owner):
            self.kernels.step(
                self.state, self.exp_avg, self.exp_avg_sq, self.frozen, self.progress, self.target,
                self.losses, w.records, w.rects, w.counts, w.starts, w.partial, w.entries,
                w.packed, w.state, w.hits, w.weights, *w.gradients(), w.view, rates, number,
                w.units, w.spans, o.settings.eps,
            )  # fmt: skip

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
        w = self.work
        while True:
            with runtime.launching(self.work.owner):
                self.kernels.score(
                    self.state, self.target, self.losses, w.records, w.rects, w.counts, w.starts,
                    w.partial, w.entries, w.packed, w.state, w.hits, w.weights, w.view, w.units,
                    w.spans, self.options.settings.eps,
                )  # fmt: skip
            if self.poll():
                return

    def psnr(self) -> float:
        """PSNR in dB that the last launch measured."""
        with runtime.launching(self.work.owner):
            total = self.losses.to_numpy().sum(dtype=np.float64)
        return psnr_of_mse(float(total) / self.values)
