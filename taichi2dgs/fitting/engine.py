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
from taichi2dgs.order import morton_order
from taichi2dgs.rendering.passes import kind
from taichi2dgs.rendering.view import View

# Fraction of the learning rates above which every step selects: what moves fast leaves a selection.
SETTLED = 0.8
_made: set[tuple] = set()  # kinds of fits that this process has compiled, or loaded


class Engine:
    """Taichi-owned state of one fit: parameters, moments, target, and `done`, the steps made.

    `places` has where each Gaussian belongs in the order of the fit's result: the caller's order,
    behind which those follow that were added. [N]

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
        self.shape, self.values = tuple(target.shape), target.numel()
        settings, channels = options.settings, target.shape[2]
        limits.check_fit(*self._needs(len(params)))
        with runtime.launching():
            key = (runtime.owner(), channels, settings.top_k, settings.blend, options.respawn > 0)
            is_new = key not in _made
            if is_new:
                runtime.log.info("compiling the fit of %d channels, or loading it", channels)
                _made.add(key)
            fixed = torch.zeros(len(params)) if frozen is None else frozen
            self._hold(_begun(params), fixed, torch.arange(len(params)))
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

    def _needs(self, n: int) -> tuple:
        """Return what n Gaussians need, as `limits.check_fit` takes it."""
        height, width, _ = self.shape
        return f"gaussians of {n} for {height}x{width}", *self.shape, n, runtime.is_gpu()

    def _hold(self, state: Tensor, frozen: Tensor, places: Tensor) -> None:
        """Put Gaussians on the device, in place of those that were there.

        Args:
            state: packed parameters, and both averages. [3, N, 5 + C]
            frozen: which of them stay as they are. [N]
            places: see above. [N]
        """
        height, width, channels = self.shape
        view = View.of((height, width), None, None)
        work = kind()(len(places), channels, view, self.options.settings)
        rows = [work.rows(values.float().cpu().contiguous().numpy()) for values in state]
        fixed = runtime.zeros("i32", (len(places),))
        fixed.from_numpy(frozen.cpu().numpy().astype(np.int32))
        # Ctrl-C does not come between these: Python looks for it where functions are called.
        self.work, self.frozen, self.places = work, fixed, places
        self.packed, self.exp_avg, self.exp_avg_sq = rows

    @property
    def spacing(self) -> float:
        """Side of the square that each Gaussian has to itself, in pixels."""
        height, width, _ = self.shape
        return math.sqrt(height * width / len(self.places))

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
        rows, values = respawn.moves(costs, self.image, residual, share, *self._setting_down())
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

    def _setting_down(self) -> tuple[str, float]:
        """Return the blend, and a deviation of Gaussians that are set down, in pixels."""
        scale = respawn.BETWEEN_SCALE if self.options.between else respawn.SCALE
        return self.options.settings.blend, scale

    def resize(self, k: int) -> None:
        """Go on with k Gaussians: see `respawn.resized`.

        Adam's averages go on for those that stay.

        Raises:
            ValueError: so many need more memory than the limit.
        """
        limits.check_fit(*self._needs(k))
        costs, residual = self.removal()
        kept, added = respawn.resized(costs, self.image, residual, k, *self._setting_down())
        kept, added = kept.cpu(), added.cpu()
        with runtime.launching(self.work.owner):
            held = (self.packed, self.exp_avg, self.exp_avg_sq)
            state = torch.stack([torch.from_numpy(one.to_numpy()) for one in held])
            state = torch.cat([state[:, kept], _begun(added)], 1)
            frozen = torch.from_numpy(self.frozen.to_numpy())[kept]
            frozen = torch.cat([frozen, frozen.new_zeros(len(added))])
            last = int(self.places.max()) + 1
            places = torch.cat([self.places[kept], torch.arange(last, last + len(added))])
            order = morton_order(state[0, :, :2], (self.shape[0], self.shape[1]))
            self.work.reserve(1)  # the lists are freed before their heirs are made
            self._hold(state[:, order], frozen[order], places[order])

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


def _begun(params: Tensor) -> Tensor:
    """Return packed parameters with averages of no step yet. [N, 5 + C] -> [3, N, 5 + C]"""
    return torch.stack([params, torch.zeros_like(params), torch.zeros_like(params)])
