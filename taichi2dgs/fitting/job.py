"""One picture of a run, what it asks for, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from torch import Tensor

from taichi2dgs.fitting.options import FitOptions, FitResult, Report
from taichi2dgs.fitting.picture import Picture
from taichi2dgs.fitting.respawn import moments, recovery
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.order import morton_order

OnReport = Callable[[Report], object]
Count = Callable[[float, Report], int]  # share of the budget that is used -> number of Gaussians


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
        count: says how many Gaussians there are to be, before the first step and at each moment of
            respawning; None for as many as there are.
        weight: how much each pixel counts; None for all alike. [H, W]
    """

    target: Tensor
    gaussians: Gaussians
    options: FitOptions
    frozen: Tensor | None = None
    target_psnr: float | None = None
    on_report: OnReport | None = None
    name: str = ""
    count: Count | None = None
    weight: Tensor | None = None
    history: list[Report] = field(default_factory=list)
    fitted: Tensor = field(init=False)  # packed, when the fit has ended. [N, 5 + C]

    def __post_init__(self) -> None:
        order = morton_order(self.gaussians.xy, self.gaussians.size)
        params = self.gaussians.packed().detach()[order]
        frozen = None if self.frozen is None else self.frozen[order]
        self.picture = Picture(
            self.target,
            params,
            frozen,
            self.name,
            order.cpu(),
            self.weight,
            self.options.settings.tile,
        )
        self._plan(self.picture)
        if self.count is not None:
            self.moments.insert(0, (0.0, 0.0))  # nothing has been fitted that could respawn

    def read(self, params: Tensor) -> Gaussians:
        """Return the Gaussians of packed parameters, in the order of the result."""
        g = self.gaussians
        return Gaussians.from_packed(params.to(g.packed()), g.size, self.options.settings, g.maps)

    def result(self) -> FitResult:
        """Return what came of it."""
        return FitResult(self.read(self.fitted), self.history)

    @property
    def has_arrived(self) -> bool:
        """Whether the last report has reached the target."""
        return self.target_psnr is not None and self.history[-1].psnr >= self.target_psnr

    def due_share(self, used: float) -> float | None:
        """Return the share of the Gaussians that may move now, the largest of those due together.

        Args:
            used: share of the budget.

        Returns:
            None where nothing is due.
        """
        due = [share for at, share in self.moments if at <= used]
        self.moments = self.moments[len(due) :]
        return max(due) if due else None

    def wanted(self, used: float, k: int, read: Callable[[], Gaussians]) -> int:
        """Return how many Gaussians there are to be from now on.

        Args:
            used: share of the budget.
            k: how many there are.
            read: reads them from the device.
        """
        if self.count is None:
            return k
        return self.count(used, replace(self.history[-1], read=read))

    def resize(self, picture: Picture, used: float) -> None:
        """Respawn from now on as suits other Gaussians.

        Args:
            picture: which they are.
            used: share of the budget.
        """
        self._plan(picture)
        self.moments = [moment for moment in self.moments if moment[0] > used]

    def _plan(self, picture: Picture) -> None:
        """Set the moments that are to come, and how many steps must be left at each of them."""
        self.moments = moments(self.options.respawn, picture.spacing, grows=self.count is not None)
        self.recovery = recovery(picture.spacing)
