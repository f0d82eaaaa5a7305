"""What changes in the course of a fit: learning rates, and how many Gaussians there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from taichi2dgs import metrics


@dataclass(frozen=True)
class Plateau:
    """Lower the learning rates when quality stands still (Image-GS).

    Args:
        every: steps between two measurements of the quality.
        patience: steps without a gain of `psnr` dB and of `ssim`, after which rates fall.
        psnr, ssim: what counts as a gain.
        factor: of the rates.
        times: how often they fall at most.
    """

    every: int = 100
    patience: int = 1000
    psnr: float = 0.1
    ssim: float = 1e-3
    factor: float = 0.1
    times: int = 1

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"plateau: every={self.every!r}; expected 1 or more steps")


@dataclass(frozen=True)
class Reduction:
    """Lower the learning rates when the loss stands still (Fast-2DGS), as torch does it.

    Args:
        factor: of the rates.
        patience: steps without a loss that is lower than the lowest by `threshold` of it, after
            which rates fall.
        threshold: relative.
        least: that a rate falls to.
    """

    factor: float = 0.7
    patience: int = 100
    threshold: float = 1e-4
    least: float = 1e-5

    def __post_init__(self) -> None:
        if not 0 < self.factor < 1:
            raise ValueError(
                f"reduction: factor={self.factor!r}; expected more than 0, less than 1"
            )

    def of(self, optimizer: torch.optim.Optimizer) -> ReduceLROnPlateau:
        """Return what is to be told the loss of every step."""
        return ReduceLROnPlateau(
            optimizer, "min", self.factor, self.patience, self.threshold, min_lr=self.least
        )


@dataclass(frozen=True)
class Growth:
    """Begin with some of the Gaussians, and put the others where the error is (Image-GS).

    Args:
        first: share of the Gaussians at first.
        every: steps until more come.
        share: of all Gaussians, that come each time.
    """

    first: float = 0.5
    every: int = 500
    share: float = 0.125

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"growth: every={self.every!r}; expected 1 or more steps")
        for name in ("first", "share"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(
                    f"growth: {name}={getattr(self, name)!r}; expected more than 0, at most 1"
                )


class Rates:
    """What learning rates are multiplied by, step after step.

    Args:
        halve_every: steps after which they are halved, again and again; 0 for never.
        plateau: lowers them otherwise, if there is one.
        image: that the fit is of. [H, W, C]
        similarity: SSIM of a render to it; a plateau needs it.
    """

    def __init__(
        self,
        halve_every: int,
        plateau: Plateau | None,
        image: Tensor,
        similarity: Callable[[Tensor], Tensor] | None,
    ) -> None:
        self.halve_every, self.plateau = halve_every, plateau
        self.image, self.similarity = image, similarity
        self.best, self.idle, self.times = [0.0, 0.0], 0, 0

    def after(self, step: int, out: Tensor, whole: bool) -> float:
        """Return the factor after a step.

        Args:
            step: 1 after the first one.
            out: render that it began with. [H, W, C]
            whole: whether all Gaussians are there; until then, a plateau waits.
        """
        if self.halve_every:
            return 0.5 ** (step // self.halve_every)
        p = self.plateau
        if p is None:
            return 1.0
        if whole and step % p.every == 0:
            self._look(out, p)
        return p.factor**self.times

    def _look(self, out: Tensor, p: Plateau) -> None:
        assert self.similarity is not None
        found = [metrics.psnr(out, self.image), float(self.similarity(out.clamp(0, 1)))]
        if found[0] > self.best[0] + p.psnr and found[1] > self.best[1] + p.ssim:
            self.best, self.idle = found, 0
        else:
            self.idle += p.every
        if self.idle >= p.patience and self.times < p.times:
            self.idle, self.times = 0, self.times + 1
