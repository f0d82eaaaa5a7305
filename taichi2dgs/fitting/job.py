"""One picture of a run, what it asks for, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from taichi2dgs.fitting.options import FitOptions, FitResult, Report
from taichi2dgs.fitting.picture import Picture
from taichi2dgs.fitting.respawn import moments
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.order import morton_order

OnReport = Callable[[Report], object]


@dataclass(eq=False)
class Job:
    """One picture of a run.

    Args:
        target: [H, W, C]
        gaussians: where its fit begins.
        options: of the fit, with settings.
        frozen: which Gaussians stay as they are; None for none. bool [N]
        target_psnr: in dB; the report that reaches it ends the fit of this picture.
        on_report: called with every report.
        name: of the picture in messages, where there are several.
    """

    target: Tensor
    gaussians: Gaussians
    options: FitOptions
    frozen: Tensor | None = None
    target_psnr: float | None = None
    on_report: OnReport | None = None
    name: str = ""
    history: list[Report] = field(default_factory=list)
    fitted: Tensor = field(init=False)  # packed, when the fit has ended. [N, 5 + C]

    def __post_init__(self) -> None:
        self.order = morton_order(self.gaussians.xy, self.gaussians.size)
        params = self.gaussians.packed().detach()[self.order]
        frozen = None if self.frozen is None else self.frozen[self.order]
        self.picture = Picture(self.target, params, frozen, self.name)
        self.moments = moments(self.options.respawn, self.picture.spacing)  # that are left to come

    def read(self, params: Tensor) -> Gaussians:
        """Return the Gaussians of an engine's parameters, in the order of those that came in."""
        fitted = torch.empty_like(self.gaussians.packed())
        fitted[self.order] = params.to(fitted)
        g = self.gaussians
        return Gaussians.from_packed(fitted, g.size, self.options.settings, g.maps)

    def result(self) -> FitResult:
        """Return what came of it."""
        return FitResult(self.read(self.fitted), self.history)

    @property
    def has_arrived(self) -> bool:
        """Whether the last report has reached the target."""
        return self.target_psnr is not None and self.history[-1].psnr >= self.target_psnr

    def due_share(self, used: float) -> float:
        """Return the share of the Gaussians that may move now; of shares due together the largest.

        Args:
            used: share of the budget.
        """
        due = [share for at, share in self.moments if at <= used]
        self.moments = self.moments[len(due) :]
        return due[0] if due else 0.0
