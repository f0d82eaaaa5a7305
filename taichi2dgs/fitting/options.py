"""What a fit is asked to do, and what it answers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from taichi2dgs.checks import number, shown, whole
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.settings import LOSSES, RenderSettings
from taichi2dgs.storage.quantise import Precision

RATES = ("xy", "log_scale", "theta", "color", "epsilon")  # fields that are numbers of 0 or more


@dataclass(frozen=True)
class FitOptions:
    """How to optimise. Learning rates are in each parameter's own unit, at the first step.

    Args:
        xy, log_scale, theta, color: learning rates in pixels, log pixels, radians, colour units.
        beta1, beta2, epsilon: Adam's constants. The usual 0.9 and 0.999 (the configuration "adam")
            remember longer than a fit of a few hundred steps has use for.
        growing_memory: whether the first steps remember less than beta1 and beta2 say, and move
            centres more slowly; see `taichi2dgs.fitting.schedule`.
        respawn: share of the Gaussians that may move at once, at two to five moments in the first
            half of the budget, from where they matter least to where the error is largest; 0: none.
            Where they are crowded, fewer do, and less often: see `taichi2dgs.fitting.respawn`.
        between: share of the steps, in the first 0.7 of the budget, that see the picture a quarter
            of a pixel away from its pixels' centres, so that it can be enlarged; 0 for none. See
            `taichi2dgs.fitting.between`.
        rounding: to what parameters will be rounded, so that the fit finds some that this harms
            less: each step sees them off by random parts of it. None for as they are. See
            `taichi2dgs.fitting.noise`.
        loss: what a step makes less, of the difference e of each value: "l2", the sum of e^2; "l1",
            that of |e|; or "charbonnier", that of sqrt(e^2 + 0.001^2). Reports, respawning and
            searches go by squared errors whatever it is.
        settings: how the fitted Gaussians blend; as those that came in if None.
        report_every: steps between reports; a twentieth of the budget if None.
        reselect: steps from one selection of the Gaussians that each pixel blends to the next, once
            the learning rates have fallen below 0.8 of what they were. The steps between, and
            reports on them, weigh what was selected by Gaussians that have moved since; the last
            report is exact. 1 selects in every step. GPUs and the blend "sum" do so whatever is
            given.

    >>> FitOptions(color=0.02, report_every=10).color
    0.02
    """

    xy: float = 0.3
    log_scale: float = 0.15
    theta: float = 0.1
    color: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.9
    epsilon: float = 1e-8
    growing_memory: bool = True
    respawn: float = 0.2
    between: float = 0.0
    rounding: Precision | None = None
    loss: str = LOSSES[0]
    settings: RenderSettings = None  # type: ignore[assignment]  (`fit` puts them in)
    report_every: int | None = None
    reselect: int = 1

    def __post_init__(self) -> None:
        for name in RATES:
            if not 0 <= number(getattr(self, name)) < math.inf:
                raise ValueError(
                    f"{name}={shown(getattr(self, name))}; expected a number of 0 or more"
                )
        for name in ("beta1", "beta2"):
            if not 0 <= number(getattr(self, name)) < 1:
                raise ValueError(f"{name}={shown(getattr(self, name))}; expected 0 <= {name} < 1")
        for name in ("respawn", "between"):
            if not 0 <= number(getattr(self, name)) <= 1:
                raise ValueError(
                    f"{name}={shown(getattr(self, name))}; expected a share from 0 to 1"
                )
        for name in (*RATES, "beta1", "beta2", "respawn", "between"):
            object.__setattr__(self, name, number(getattr(self, name)))
        if not isinstance(self.loss, str) or self.loss not in LOSSES:
            raise ValueError(f"loss={shown(self.loss)}; expected one of {', '.join(LOSSES)}")
        if not isinstance(self.growing_memory, bool):
            raise ValueError(f"growing_memory={shown(self.growing_memory)}; expected True or False")
        if self.rounding is not None and not isinstance(self.rounding, Precision):
            raise ValueError(f"rounding={shown(self.rounding)}; expected a Precision, or None")
        if self.settings is not None and not isinstance(self.settings, RenderSettings):
            raise ValueError(f"settings={shown(self.settings)}; expected RenderSettings, or None")
        if self.report_every is not None:
            steps = whole(self.report_every, "report_every", 1)
            object.__setattr__(self, "report_every", steps)
        object.__setattr__(self, "reselect", whole(self.reselect, "reselect", 1))


@dataclass(frozen=True)
class Report:
    """Where a fit stood after `step` steps.

    Args:
        step: how many were done.
        seconds: on the clock, without compiling, measuring and reporting.
        psnr: in dB; where pixels have weights, of the mean of squared errors by these.
        read: reads the Gaussians from the device; only reports that `on_report` gets have it.

    >>> Report(step=100, seconds=3.2, psnr=41.5)
    Report(step=100, seconds=3.2, psnr=41.5)
    """

    step: int
    seconds: float
    psnr: float
    read: Callable[[], Gaussians] | None = field(default=None, repr=False, compare=False)

    @property
    def gaussians(self) -> Gaussians:
        """The Gaussians as they are now, at most a step after the one that was measured.

        Raises:
            ValueError: the fit has gone on: only `on_report` can ask, while it is called.
        """
        if self.read is None:
            raise ValueError(f"the Gaussians of step {self.step} are gone; ask within on_report")
        return self.read()


@dataclass(frozen=True)
class FitResult:
    """What a fit ends with.

    Args:
        gaussians: the fitted Gaussians, in the order and on the device of those that came in, with
            the settings that they were fitted for.
        history: reports from step 0 to the last step.

    >>> import pipelines
    >>> import taichi2dgs as t2
    >>> image = t2.read_image("sample:astronaut")[:16, :16]
    >>> result = t2.fit(image, pipelines.initialize(image, 30, "gradient"), steps=4)
    >>> result.steps
    4
    """

    gaussians: Gaussians
    history: list[Report]

    @property
    def psnr(self) -> float:
        """PSNR in dB of the Gaussians."""
        return self.history[-1].psnr

    @property
    def steps(self) -> int:
        """Steps that the fit made."""
        return self.history[-1].step

    @property
    def seconds(self) -> float:
        """Seconds that the fit took, without compiling, measuring and reporting."""
        return self.history[-1].seconds

    def plot(self, axes: Any = None) -> Any:
        """Draw the PSNR against the seconds of the fit, on axes of matplotlib, and return them.

        Args:
            axes: to draw on; the current ones of pyplot if None.

        Raises:
            ValueError: matplotlib, which the extra `plot` brings, is missing.
        """
        from taichi2dgs import draw

        return draw.curve(self.history, axes)

    def _repr_html_(self) -> str:
        from taichi2dgs.viewing import notebook

        return notebook.of_fit(self.gaussians, self.history)


class FitInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a fit before its budget did; `result` is what was there, and measured.

    That is a `FitResult` or, of a batch, the list of those of all its images.

    >>> import taichi2dgs as t2
    >>> try:
    ...     g = t2.encode("sample:astronaut", k=50, steps=0, start="random")
    ... except t2.FitInterrupted as stop:
    ...     g = stop.result.gaussians
    """

    def __init__(self, result: FitResult | list[FitResult]) -> None:
        results = result if isinstance(result, list) else [result]
        super().__init__(f"after step {max(one.steps for one in results)}")
        self.result: Any = result
