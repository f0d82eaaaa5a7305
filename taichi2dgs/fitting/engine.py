"""State of a fit on the device, and the launches that advance and measure it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taichi2dgs import runtime
from taichi2dgs.fitting import between, respawn
from taichi2dgs.fitting.noise import Noise
from taichi2dgs.fitting.options import FitOptions
from taichi2dgs.fitting.picture import Picture, check_memory
from taichi2dgs.fitting.schedule import Schedule
from taichi2dgs.metrics import psnr_of_mse
from taichi2dgs.rendering.passes import kind
from taichi2dgs.rendering.view import View

# Fraction of the learning rates above which every step selects: what moves fast leaves a selection.
SETTLED = 0.8
_made: set[tuple] = set()  # kinds of fits that this process has compiled, or loaded


class Engine:
    """Taichi-owned state of a fit of some pictures, and `done`, the steps made.

    All pictures make each step in one launch. What becomes of one does not depend on the others.

    Args:
        pictures: one or more, of as many channels each.
        options: learning rates, and how to blend.
        measured: whether the errors are known before the first step.
    """

    def __init__(
        self, pictures: Sequence[Picture], options: FitOptions, measured: bool = True
    ) -> None:
        self.pictures = list(pictures)
        self.options, self.schedule, self.done = options, Schedule(options), 0
        self.phase: int | None = None  # that the last launch saw in place of the pixels
        self.weighted = any(picture.weight is not None for picture in self.pictures)
        self.stale = True  # whether the next step selects anew, whatever its number
        self.counts = [len(picture.params) for picture in self.pictures]
        check_memory(self.pictures, self.counts)
        channels, settings = self.pictures[0].target.shape[2], options.settings
        with runtime.launching():
            blend = (settings.top_k, settings.blend, options.loss, self.weighted)
            key = (runtime.owner(), channels, *blend, options.respawn > 0)
            is_new = key not in _made
            if is_new:
                runtime.log.info("compiling the fit of %d channels, or loading it", channels)
                _made.add(key)
            self._make(channels)
        device = runtime.device()
        self.images = [picture.target.to(device).float() for picture in self.pictures]
        self.weights = [
            None if picture.weight is None else picture.weight.to(device)
            for picture in self.pictures
        ]
        if measured:
            self.step(0, 0.0)  # compiles and measures; no step 0 is ever due, so nothing moves
            if options.reselect > 1:
                self._launch(0, 0.0, selects=False)
            if options.respawn and is_new:
                costs, _ = self.removal()  # compiles, as the next does
                first = torch.zeros(1, dtype=torch.int32, device=costs.device)
                self._put(first, self.params[:1].to(costs.device))
            self.score()

    def _make(self, channels: int) -> None:
        """Make the arrays of the device."""
        parts = tuple((len(one.params), View.of(one.size)) for one in self.pictures)
        self.work = kind()(
            parts,
            channels,
            self.options.settings,
            loss=self.options.loss,
            weighted=self.weighted,
        )
        params = np.concatenate([one.params.float().cpu().numpy() for one in self.pictures])
        self.packed = self.work.rows(params)
        self.exp_avg, self.exp_avg_sq = (self.work.rows(np.zeros_like(params)) for _ in range(2))
        self.frozen = runtime.zeros("i32", (len(params),))
        if any(one.frozen is not None for one in self.pictures):
            fixed = [
                np.zeros(len(one.params)) if one.frozen is None else one.frozen.cpu().numpy()
                for one in self.pictures
            ]
            self.frozen.from_numpy(np.concatenate(fixed).astype(np.int32))
        self.noise = Noise(self.work, self.pictures, self.options.rounding)
        self.progress = runtime.zeros("i32", (2,))
        self.losses = runtime.zeros("f32", (self.work.tiles,))
        self.target = self.target_of([one.target for one in self.pictures])
        self.phases = [
            self.target_of(
                [one.phases[phase] for one in self.pictures],
                [one.phase_weight for one in self.pictures],
            )
            for phase in range(len(between.PHASES) if self.options.between else 0)
        ]

    def target_of(
        self, images: Sequence[Tensor], weights: Sequence[Tensor | None] | None = None
    ) -> Any:
        """Return what a step compares with, on the device.

        Args:
            images: one for each picture, in place of it. [H, W, C]
            weights: of their pixels; those of the pictures if None. [H, W]
        """
        if not self.weighted:
            return self.work.target(images)
        weights = weights or [picture.weight for picture in self.pictures]
        filled = [
            torch.ones(image.shape[:2]) if weight is None else weight.float().cpu()
            for image, weight in zip(images, weights, strict=True)
        ]
        pairs = zip(images, filled, strict=True)
        return self.work.target(
            [torch.cat([image.float().cpu(), weight[..., None]], 2) for image, weight in pairs]
        )

    @property
    def params(self) -> Tensor:
        """The packed parameters, picture by picture, read back from the device. [N, 5 + C]"""
        with runtime.launching(self.work.owner):
            self.noise.change(self.packed, 0)
            return torch.from_numpy(self.packed.to_numpy())

    def results(self) -> list[Tensor]:
        """Return the packed parameters of each picture in its result's order. [N, 5 + C] each"""
        parts = zip(self.params.split(self.counts), self.pictures, strict=True)
        return [params[picture.places.argsort()] for params, picture in parts]

    def state(self) -> list[Tensor]:
        """Return the parameters and both averages of each picture. [3, N, 5 + C] each"""
        with runtime.launching(self.work.owner):
            self.noise.change(self.packed, 0)
            held = (self.packed, self.exp_avg, self.exp_avg_sq)
            rows = torch.stack([torch.from_numpy(one.to_numpy()) for one in held])
        return list(rows.split(self.counts, 1))

    def step(self, number: int, rate: float) -> None:
        """Launch step `number`, from 1, at a fraction of the learning rates."""
        self.steps(number, [rate])

    def steps(self, number: int, fractions: list[float]) -> None:
        """Launch steps from `number` on, each at its fraction of the learning rates."""
        for n, fraction in enumerate(fractions, number):
            phase = between.phase_of(n, self.options.between, fraction)
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
            self.noise.change(self.packed, number)
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

    @property
    def is_exact(self) -> bool:
        """Whether the last launch measured the parameters as they are, at the pixels' centres."""
        return self.phase is None and not self.noise.number

    def _seen(self):
        """Return what the last launch compared with."""
        return self.target if self.phase is None else self.phases[self.phase]

    def removal(self) -> tuple[Tensor, list[Tensor]]:
        """Return what leaving out each Gaussian would cost, [N], and residuals, each [H, W, C].

        The cost is by how much the squared error grows, infinite for a frozen Gaussian; the
        residual is the clamped render minus the picture.
        """
        self.stale = True  # the lists are made anew
        while True:
            with runtime.launching(self.work.owner):
                self.noise.change(self.packed, 0)
                costs, residuals = self.work.removal(self.packed, self.target)
                frozen = torch.from_numpy(self.frozen.to_numpy()).bool().to(costs.device)
            if self.poll():
                return costs.masked_fill(frozen, math.inf), residuals

    def respawn(self, shares: Sequence[float]) -> int:
        """Move at most a share of each picture's Gaussians; return how many: see `respawn.py`.

        Adam's averages begin anew for those that moved.
        """
        costs, residuals = self.removal()
        moved, first = [], 0
        for own, image, residual, share, weight in zip(
            costs.split(self.counts), self.images, residuals, shares, self.weights, strict=True
        ):
            rows, values = respawn.moves(
                own, image, residual, share, *self.setting_down(), weight=weight
            )
            moved.append((rows + first, values))
            first += len(own)
        rows, values = (torch.cat(parts) for parts in zip(*moved, strict=True))
        if len(rows):  # a kernel takes no empty array
            self._put(rows.int(), values.contiguous())
        return len(rows)

    def _put(self, which: Tensor, values: Tensor) -> None:
        """Give some Gaussians, int32 [M], other parameters, [M, 5 + C], and new averages."""
        self.noise.forget()
        with runtime.launching(self.work.owner):
            self.work.put(
                params=self.packed,
                exp_avg=self.exp_avg,
                exp_avg_sq=self.exp_avg_sq,
                which=which,
                values=values,
            )

    def setting_down(self) -> tuple[str, float]:
        """Return the blend, and a deviation of Gaussians that are set down, in pixels."""
        scale = respawn.BETWEEN_SCALE if self.options.between else respawn.SCALE
        return self.options.settings.blend, scale

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
                    f"{self._broken()} is not finite after step {bad}; lower the learning rates"
                )
            had_room = self.work.make_room()
            self.stale |= not had_room
            return had_room

    def _broken(self) -> str:
        """Say whose parameter is not finite."""
        broken = [
            picture.name
            for picture, part in zip(self.pictures, self.params.split(self.counts), strict=True)
            if not bool(torch.isfinite(part).all())
        ]
        return f"a parameter of {broken[0]}" if broken and broken[0] else "a parameter"

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

    def psnrs(self) -> list[float]:
        """PSNR of each picture in dB, by its weights, that the last launch measured."""
        with runtime.launching(self.work.owner):
            errors = self.work.errors(self._seen(), self.losses)
        masses = [self._mass(picture) for picture in self.pictures]
        return [psnr_of_mse(error / mass) for error, mass in zip(errors, masses, strict=True)]

    def _mass(self, picture: Picture) -> float:
        """Return what the squared error of a picture, as the last launch saw it, is a sum over."""
        if self.phase is None or picture.phase_weight is None:
            return picture.mass
        return max(float(picture.phase_weight.sum()), 1.0) * picture.target.shape[2]
