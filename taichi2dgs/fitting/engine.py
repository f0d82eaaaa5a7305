"""State of one fit on the device, and the launches that advance and measure it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from taichi2dgs import limits, runtime
from taichi2dgs.fitting import between, respawn
from taichi2dgs.fitting.options import FitOptions
from taichi2dgs.fitting.schedule import Schedule
from taichi2dgs.metrics import psnr_of_mse
from taichi2dgs.rendering.passes import kind
from taichi2dgs.rendering.view import View

# Fraction of the learning rates above which every step selects: what moves fast leaves a selection.
SETTLED = 0.8
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
        self.options, self.schedule, self.done = options, Schedule(options), 0
        self.phase: int | None = None  # that the last launch saw in place of the pixels
        self.stale = True  # whether the next step selects anew, whatever its number
        n, columns = params.shape
        height, width, channels = target.shape
        what = f"gaussians of {n} for {height}x{width}"
        limits.check_fit(what, height, width, channels, n, runtime.is_gpu())
        self.values = target.numel()
        settings = options.settings
        view = View.of((height, width), None, None)
        with runtime.launching():
            key = (runtime.owner(), channels, settings.top_k, settings.blend, options.respawn > 0)
            is_new = key not in _made
            if is_new:
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
            self.phases = [
                self.work.target(phase)
                for phase in (between.phases(target) if options.between else ())
            ]
        self.image = target.to(runtime.device()).float()
        if measured:
            self.step(0, 0.0)  # compiles and measures; no step 0 is ever due, so nothing moves
            if options.reselect > 1:
                self._launch(0, 0.0, selects=False)
            if options.respawn and is_new:
                self.removal()  # compiles
            self.score()

    @property
    def spacing(self) -> float:
        """Side of the square that each Gaussian has to itself, in pixels."""
        height, width, _ = self.image.shape
        return math.sqrt(height * width / self.packed.shape[0])

    @property
    def params(self) -> Tensor:
        """The packed parameters, read back from the device. [N, 5 + C]"""
        with runtime.launching(self.work.owner):
            return torch.from_numpy(self.packed.to_numpy())

    def step(self, number: int, rate: float) -> None:
        """Launch step `number`, from 1, at a fraction of the learning rates."""
        self.steps(number, [rate])

    def steps(self, number: int, fractions: list[float]) -> None:
        """Launch steps from `number` on, each at its fraction of the learning rates."""
        for n, fraction in enumerate(fractions, number):
            phase = between.phase_of(n, self.options.between)
            centred = phase is None and self.phase is None  # as the last launch was
            due = (n - 1) % self.options.reselect == 0 or fraction > SETTLED
            selects = self.stale or due or not centred
            self._launch(n, fraction, selects, phase=phase)
            self.stale = False

    def _launch(self, number: int, rate: float, selects: bool, phase: int | None = None) -> None:
        """Launch a step that may see one of the `between.PHASES` in place of the pixels."""
        rates = self.schedule.rates(number, rate)
        self.phase = phase
        with runtime.launching(self.work.owner):
            self.work.step(
                selects=selects,
                keeps=self.options.reselect > 1,
                params=self.packed,
                exp_avg=self.exp_avg,
                exp_avg_sq=self.exp_avg_sq,
                frozen=self.frozen,
                progress=self.progress,
                target=self._seen(),
                losses=self.losses,
                rates=rates,
                number=number,
                shift=(0.0, 0.0) if phase is None else between.offset_of(phase),
            )

    def _seen(self):
        """Return what the last launch compared with."""
        return self.target if self.phase is None else self.phases[self.phase]

    def removal(self) -> tuple[Tensor, Tensor]:
        """Return what leaving out each Gaussian would cost, [N], and the residual, [H, W, C].

        The cost is by how much the squared error grows, infinite for a frozen Gaussian; the
        residual is the clamped render minus the picture.
        """
        self.stale = True  # the lists are made anew
        while True:
            with runtime.launching(self.work.owner):
                costs, residual = self.work.removal(self.packed, self.target)
                frozen = torch.from_numpy(self.frozen.to_numpy()).bool().to(costs.device)
            if self.poll():
                return costs.masked_fill(frozen, math.inf), residual

    def respawn(self, share: float) -> int:
        """Move at most a share of the Gaussians; return how many: see `respawn.py`.

        Adam's averages begin anew for those that moved.
        """
        costs, residual = self.removal()
        scale = respawn.BETWEEN_SCALE if self.options.between else respawn.SCALE
        blend = self.options.settings.blend
        rows, values = respawn.moves(costs, self.image, residual, share, blend, scale)
        if not len(rows):
            return 0  # a kernel takes no empty array
        with runtime.launching(self.work.owner):
            self.work.put(
                params=self.packed,
                exp_avg=self.exp_avg,
                exp_avg_sq=self.exp_avg_sq,
                which=rows.int(),
                values=values.contiguous(),
            )
        return len(rows)

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
            total = self.work.error(self._seen(), self.losses)
        return psnr_of_mse(total / self.values)
