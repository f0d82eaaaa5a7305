"""A method: a start and a schedule, on the one renderer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pipelines import fields
from pipelines.baselines.optimizers import OPTIMIZERS, check_betas, optimizer_of
from pipelines.baselines.parameters import PARAMETERS, Leaves, extent_of, from_cholesky
from pipelines.baselines.schedule import Growth, Plateau, Rates, Reduction
from pipelines.baselines.similarity import similarity_to
from pipelines.baselines.starts import STARTS, adaptive_count, at_pixels, begin, scaled
from pipelines.starts import sampling
from taichi2dgs import metrics, runtime
from taichi2dgs.checks import shown
from taichi2dgs.fitting.budget import Budget, Clock
from taichi2dgs.fitting.fit import fit
from taichi2dgs.fitting.options import FitInterrupted, FitOptions, FitResult, Report
from taichi2dgs.fitting.schedule import falling
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.rendering.autograd import render_packed
from taichi2dgs.rendering.view import View
from taichi2dgs.settings import RenderSettings
from taichi2dgs.storage.files import as_image

LEAVES = {"xy", "shape", "theta", "color"}
REPORT_EVERY = 25  # steps
WAIT_EVERY = 0.02  # seconds, at the latest, as in a fused fit
REPORT_GROWTH = 1.02  # a report is also due when the seconds have grown by this factor


@dataclass(frozen=True)
class Method:
    """What a configuration in `configs/baselines` says.

    Args:
        about: one line: whose method, and where its numbers are from.
        start: one of `STARTS`.
        sampler: of this library's own starts, see `sampling.sample`; None for their defaults.
        adaptive: whether k is that of a picture of average detail; see `adaptive_count`.
        fused: fit with the fused engine; of what follows, only `fit` counts then.
        fit: fields of `FitOptions` that differ from its defaults.
        parameters: one of `PARAMETERS`.
        settings: how Gaussians blend; fields of `RenderSettings`.
        scale: how large Gaussians begin: by what the start's standard deviations are multiplied.
        clamp: whether the loss sees the render clamped to [0, 1].
        l1, l2, ssim: weights of the mean absolute error, mean squared error and 1 - SSIM.
        optimizer: "adam", "adamw" or "adan".
        weight_decay: of AdamW.
        betas: what Adam's and AdamW's averages keep in each step; None for torch's 0.9 and 0.999.
        rates: learning rates of xy, shape, theta and color, each in the unit of its leaf.
        halve_every: steps after which the rates are halved, again and again; 0 for never.
        cosine: whether the rates fall along half a cosine over the budget, as a fused fit's do.
        plateau, growth, reduction: fields of `Plateau`, `Growth` or `Reduction`, if there is one.
    """

    about: str = ""
    start: str = "gradient"
    sampler: str | None = None
    adaptive: bool = False
    fused: bool = False
    fit: dict[str, Any] = field(default_factory=dict)
    parameters: str = "log-scale"
    settings: dict[str, Any] = field(default_factory=dict)
    scale: float = 1.0
    clamp: bool = False
    l1: float = 0.0
    l2: float = 1.0
    ssim: float = 0.0
    optimizer: str = "adam"
    weight_decay: float = 0.0
    betas: tuple[float, float] | None = None
    rates: dict[str, float] = field(default_factory=dict)
    halve_every: int = 0
    cosine: bool = False
    plateau: dict[str, Any] | None = None
    reduction: dict[str, Any] | None = None
    growth: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        known = {"start": STARTS, "parameters": PARAMETERS, "optimizer": OPTIMIZERS}
        for name, choices in known.items():
            sampling.checked_choice(getattr(self, name), name, choices)
        if not self.scale > 0:
            raise ValueError(f"scale={shown(self.scale)}; expected more than 0")
        leaves = LEAVES - {"theta"} if self.parameters == "cholesky" else LEAVES
        if not self.fused and set(self.rates) != leaves:
            raise ValueError(
                f"rates={shown(self.rates)}; expected one for each of {sorted(leaves)}"
            )
        check_betas(self.betas, self.optimizer)
        others = self.halve_every or self.plateau or self.growth
        if self.reduction is not None and (others or self.cosine):
            raise ValueError("reduction goes with none of halve_every, plateau, growth and cosine")
        if self.cosine and others:
            raise ValueError("cosine goes with none of halve_every, plateau and growth")
        if self.sampler is not None:
            sampling.checked_choice(self.sampler, "sampler", sampling.METHODS)
        for kind, name in (
            (RenderSettings, "settings"),
            (Plateau, "plateau"),
            (Reduction, "reduction"),
            (Growth, "growth"),
            (FitOptions, "fit"),
        ):
            fields.made(kind, getattr(self, name) or {}, name)

    @property
    def ends_at_budget(self) -> bool:
        """Whether the rates go by the budget, so that a fit says nothing of a shorter one."""
        return self.fused or self.cosine


def run(
    image: Tensor,
    k: int,
    method: Method,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    on_report: Callable[[Report], object] | None = None,
) -> FitResult:
    """Fit k Gaussians to an image as a method does.

    Args:
        image: values in [0, 1]; the fit runs on its device. [H, W, C]
        k: number of Gaussians at the end, if the method does not choose it.
        method: see `load`.
        steps, seconds: the budget; what runs out first ends the fit.
        seed: of the start.
        on_report: called with every `Report`: every 25 steps, at the end and, unless fused, when
            the seconds have grown by 2 %. Neither it nor measuring counts against the budget.

    Returns:
        As `taichi2dgs.fit`.

    Raises:
        ValueError: an argument does not fit.
        FitInterrupted: Ctrl-C came; see `taichi2dgs.fit`.
        ImportError: the loss has SSIM, and the package pytorch-msssim is not installed.
    """
    budget = Budget(steps, seconds)
    if not isinstance(method, Method):
        raise ValueError(f"method={shown(method)}; expected a Method, see baselines.load")
    if on_report is not None and not callable(on_report):
        raise ValueError(f"on_report={shown(on_report)}; expected a function, or None")
    image = as_image(image)
    k, seed = sampling.checked_count(k), sampling.checked_seed(seed)
    k = adaptive_count(image, k) if method.adaptive else k
    if method.fused:
        options = FitOptions(**{"report_every": REPORT_EVERY, **method.fit})
        start = begin(image, k, method.start, seed, method.sampler, budget.foreseen)
        return fit(image, start, steps=steps, seconds=seconds, on_report=on_report, options=options)
    return _Run(image, k, method, seed, budget, on_report).until()


class _Run:
    """Leaves, optimiser and clock of one fit."""

    def __init__(
        self, image: Tensor, k: int, method: Method, seed: int, budget: Budget, on_report
    ) -> None:
        self.image, self.k, self.method, self.seed, self.budget = image, k, method, seed, budget
        self.on_report, self.history = on_report, []
        self.parameters = PARAMETERS[method.parameters]
        self.settings = RenderSettings(**method.settings)
        self.view = View.of((image.shape[0], image.shape[1]), None, None)
        self.extent = extent_of((image.shape[0], image.shape[1]), image)
        self.similarity = similarity_to(image) if method.ssim or method.plateau else None
        self.growth = Growth(**method.growth) if method.growth else None
        first = round(k * self.growth.first) if self.growth else k
        start = begin(image, max(1, first), method.start, seed, method.sampler, budget.foreseen)
        self._take(scaled(start, method.scale))
        plateau = Plateau(**method.plateau) if method.plateau else None
        self.rates = Rates(method.halve_every, plateau, image, self.similarity)
        self.step = 0
        self._loss(self.render()).backward()  # compiles before the clock starts
        self._synchronize()
        self.clock, self.waited = Clock(), 0.0

    def _take(self, gaussians: Gaussians) -> None:
        """Optimise these from now on, with a new optimiser."""
        m = self.method
        self.leaves: Leaves = {
            name: leaf.detach().clone().requires_grad_()
            for name, leaf in self.parameters.split(gaussians).items()
        }
        self.optimizer = optimizer_of(m.optimizer, self.leaves, m.rates, m.weight_decay, m.betas)
        self.reduction = Reduction(**m.reduction).of(self.optimizer) if m.reduction else None

    def packed(self) -> Tensor:
        return self.parameters.pack(self.leaves, self.extent)

    def render(self) -> Tensor:
        return render_packed(self.packed(), self.view, self.settings, self.parameters.shape)

    def gaussians(self) -> Gaussians:
        size = (self.image.shape[0], self.image.shape[1])
        make = from_cholesky if self.parameters.shape == "cholesky" else Gaussians.from_packed
        return make(self.packed().detach(), size, self.settings)

    def until(self) -> FitResult:
        budget, interrupted = self.budget, False
        try:
            self._report(self.render())
            while not budget.is_over(self.step, elapsed := self._elapsed()):
                if self.method.cosine:
                    self._lower(falling(budget.used(self.step, elapsed)))
                self._advance()
        except KeyboardInterrupt:
            interrupted = True
        self._report(self.render())
        result = FitResult(self.gaussians(), self.history)
        if interrupted:
            raise FitInterrupted(result)
        return result

    def _elapsed(self) -> float:
        """Seconds of fitting. A device runs behind, so it is waited for now and then."""
        if self.clock.elapsed() - self.waited >= WAIT_EVERY:
            self._wait()
        return self.clock.elapsed()

    def _wait(self) -> None:
        """Wait for all that was launched: what the clock says next has been done."""
        self._synchronize()
        self.waited = self.clock.elapsed()

    def _synchronize(self) -> None:
        runtime.sync()
        if self.image.is_cuda:
            torch.cuda.synchronize(self.image.device)

    def _advance(self) -> None:
        """Make one step, and before it let more Gaussians come, if they are due."""
        out = self.render()
        if self._is_growth_due():
            self._report(out)  # new Gaussians, coloured by the error, lower the PSNR at first
            self._grow(out)
            out = self.render()
        due = self._elapsed() >= REPORT_GROWTH * self.history[-1].seconds
        if due or self.step % REPORT_EVERY == 0:
            self._report(out)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(out)
        loss.backward()
        self.optimizer.step()
        self.step += 1
        if self.reduction is not None:
            self.reduction.step(loss.detach())
            return
        self._lower(self.rates.after(self.step, out.detach(), self._is_whole()))

    def _lower(self, fraction: float) -> None:
        """Bring the learning rates to a fraction of the first ones."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["first"] * fraction

    def _loss(self, out: Tensor) -> Tensor:
        m, out = self.method, out.clamp(0, 1) if self.method.clamp else out
        loss = m.l1 * (out - self.image).abs().mean() + m.l2 * (out - self.image).square().mean()
        if self.similarity is not None and m.ssim:
            loss = loss + m.ssim * (1 - self.similarity(out))
        return loss

    def _is_whole(self) -> bool:
        """Whether all Gaussians are there; until then, rates stay."""
        return len(self.leaves["xy"]) >= self.k

    def _is_growth_due(self) -> bool:
        growth = self.growth if self.step and not self._is_whole() else None
        return growth is not None and self.step % growth.every == 0

    def _grow(self, out: Tensor) -> None:
        """Add Gaussians at pixels drawn by the squared error, coloured with what is missing."""
        assert self.growth is not None
        missing = self.image - out.detach().clamp(0, 1)
        error = missing.abs().mean(-1).square()
        count = min(max(1, round(self.k * self.growth.share)), self.k - len(self.leaves["xy"]))
        (pixels,) = sampling.sample(error[None], count, "distinct", self.seed + self.step)
        pixels = pixels.to(self.image.device)
        new = at_pixels(pixels, self.image, missing.reshape(-1, missing.shape[2])[pixels])
        new = scaled(new, self.method.scale)
        together = torch.cat([self.gaussians().packed(), new.packed()])
        self._take(Gaussians.from_packed(together, new.size))

    def _report(self, out: Tensor) -> None:
        if self.history and self.history[-1].step >= self.step:
            return
        self._wait()
        with self.clock.stopped():
            psnr = metrics.psnr(out.detach(), self.image)
            self.history.append(Report(self.step, self.waited, psnr))
            if self.on_report is not None:
                self.on_report(self.history[-1])
