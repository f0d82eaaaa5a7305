"""From a picture to fitted Gaussians, and how many there should be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.aims import AUTO_PSNR, PROBE, Aim, BytesAim, PsnrAim, automatic_count, most
from pipelines.defaults import (
    AUTO,
    COARSE,
    LONG,
    QUALITY,
    REFINE,
    REFINE_HIGH,
    REFINE_SHARE,
    SECONDS,
    START,
    K,
)
from pipelines.search import SHORT, TRIES, OnReport, Search
from pipelines.starts.named import checked_start, initialize
from pipelines.starts.sampling import checked_count
from taichi2dgs.checks import number, shown, whole
from taichi2dgs.fitting.budget import Budget
from taichi2dgs.fitting.colors import solve_colors
from taichi2dgs.fitting.fit import fit, fit_counted
from taichi2dgs.fitting.job import Count
from taichi2dgs.fitting.options import FitOptions, FitResult
from taichi2dgs.fitting.refine import encode_refined
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.settings import DEFAULT, QUALITIES
from taichi2dgs.storage import t2d
from taichi2dgs.storage.maps import Stack
from taichi2dgs.storage.stacks import as_stack

OPTIONS = FitOptions()
LEARNING_RATES = ("xy", "log_scale", "theta", "color")
SOLVED = 3  # steps of `solve_colors` where there is no fit; a fit's own first steps do more
BYTES_EACH = {"lossless": 26.0, "high": 6.5, "medium": 5.0, "small": 4.1}  # bytes in a file


@dataclass(frozen=True)
class Encoding:
    """How pictures are encoded: `taichi2dgs.encode` in parts, which keeps the PSNR and the reports.

    Args:
        k: number of Gaussians; "auto" begins with as many as the picture's detail asks for, and
            aims at 38 dB in the course of the fit; None is 50,000 where there is no target.
        target_psnr: find the number of Gaussians that ends within 0.5 dB of this.
        target_bytes: find the largest number whose file takes no more than this.
        quality: of the file; see `Gaussians.save`.
        refine: steps that make up for what rounding costs; None is 300 where the quality
            is medium or small, and 0 elsewhere.
        progressive: whether the first quarter of a file is to be a coarse picture.
        steps: of a fit. With 0 there is none: the start gets the colours that suit it best.
        seconds: of a fit; with steps too, what runs out first ends it. 10 if both are None.
        start: see `pipelines.initialize`.
        seed: of the start.
        weights: folder of the networks' weights; the shipped ones if None.
        options: of the fit.
        linear: whether colours are fitted as linear light, which Gaussians then hold.

    Raises:
        ValueError: an argument is out of range, or more than one of the first three is given.

    >>> import taichi2dgs as t2
    >>> image = t2.read_image("sample:astronaut")[:32, 200:240]
    >>> encoding = Encoding(k=60, steps=20, quality="small")
    >>> result = encoding.run(image)
    >>> result.gaussians, result.psnr > result.history[0].psnr
    (Gaussians(60; 32x40; 3 channels; cpu), True)
    >>> encoding.save("eyes.t2d", result.gaussians, image)
    """

    k: int | str | None = None
    target_psnr: float | None = None
    target_bytes: int | None = None
    quality: str = QUALITY
    refine: int | None = None
    progressive: bool = False
    steps: int | None = None
    seconds: float | None = None
    start: str = START
    seed: int = 0
    weights: str | Path | None = None
    options: FitOptions = OPTIONS
    linear: bool = False

    def __post_init__(self) -> None:
        if self.steps is None and self.seconds is None:
            object.__setattr__(self, "seconds", SECONDS)
        for name, value in vars(self.budget).items():
            object.__setattr__(self, name, value)
        whole(self.seed, "seed", 0)
        names = [n for n in ("k", "target_psnr", "target_bytes") if getattr(self, n) is not None]
        if len(names) > 1:
            raise ValueError(f"{' and '.join(names)} are given; expected one of them")
        if self.k is not None and not self._automatic:
            checked_count(self.k)
        if self.target_psnr is not None and not 0 < number(self.target_psnr) < math.inf:
            raise ValueError(
                f"target_psnr={shown(self.target_psnr)}; expected a positive number of dB"
            )
        if self.target_bytes is not None and not 1 <= number(self.target_bytes) < math.inf:
            raise ValueError(f"target_bytes={shown(self.target_bytes)}; expected a positive number")
        for name, kind in (("target_psnr", float), ("target_bytes", int)):
            if (target := getattr(self, name)) is not None:  # it may have come as a tensor
                object.__setattr__(self, name, kind(number(target)))
        checked_start(self.start)
        if not isinstance(self.linear, bool):
            raise ValueError(f"linear={shown(self.linear)}; expected True or False")
        if not isinstance(self.options, FitOptions):
            raise ValueError(f"options={shown(self.options)}; expected FitOptions")
        if not isinstance(self.quality, str) or self.quality not in QUALITIES:
            raise ValueError(
                f"quality={shown(self.quality)}; expected one of {', '.join(QUALITIES)}"
            )
        if self.refine is not None:
            whole(self.refine, "refine", 0)
        t2d.check_progressive(self.progressive, self.quality)

    def run(self, image: Any, on_report: OnReport | None = None) -> FitResult:
        """Encode one picture.

        With "auto" or a target, the number of Gaussians changes in the course of the fit. Before
        that, for a PSNR, a fit of 0.15 of the budget tells with how many it begins. Where a target
        is missed, the fit goes on for 0.4 of the budget with another number, at most four times.
        A fit of fewer than 20 steps foretells nothing: then each number that is tried has a whole
        fit of its own.

        Args:
            image: what `taichi2dgs.encode` takes: a path, a PIL image, an array or tensor
                [H, W, C], or a stack, which may have weights.
            on_report: called with the number of Gaussians and every report of every fit.

        Returns:
            The fit that counts, with its reports since it began; where no number reaches
            target_psnr, the nearest one.

        Raises:
            ValueError: an argument does not fit, a file cannot be read, or no Gaussian fits in
                target_bytes.
            FitInterrupted: Ctrl-C came; its `result` is the best that was there. In a search that
                is a finished fit, but an unfinished one where that alone fits in target_bytes or
                none has finished. A plain KeyboardInterrupt if there was no step of any fit.
        """
        if on_report is not None and not callable(on_report):
            raise ValueError(f"on_report={shown(on_report)}; expected a function, or None")
        image = as_stack(image, self.linear)
        if self.target_bytes is not None:
            return self._search_bytes(image, self.target_bytes, on_report)
        if self.target_psnr is not None:
            k = automatic_count(image.image, self.target_psnr, image.weight)
            aim = PsnrAim(self.target_psnr, image.image, image.weight)
            return self._search(image, aim, k, on_report, self._probe)
        if self._automatic:
            k = automatic_count(image.image, weight=image.weight)
            aim = PsnrAim(AUTO_PSNR, image.image, image.weight)
            return self._search(image, aim, k, on_report, self._probe, tries=1)
        return self._fit(image, checked_count(self.k or K), on_report)

    def tiled(self) -> Encoding:
        """Return the same for textures that wrap around, see `RenderSettings`."""
        settings = (self.options.settings or DEFAULT).but(tile=True)
        return replace(self, options=replace(self.options, settings=settings))

    @property
    def searches(self) -> bool:
        """Whether the number of Gaussians is found in the course of a fit."""
        return self._automatic or self.target_psnr is not None or self.target_bytes is not None

    @property
    def budget(self) -> Budget:
        """When a fit ends."""
        return Budget(self.steps, self.seconds)

    @property
    def _automatic(self) -> bool:
        return isinstance(self.k, str) and self.k == AUTO

    def refine_steps(self, fitted: int = 0) -> int:
        """Return for how many steps a file is refined after a fit of `fitted` steps."""
        if self.refine is not None:
            return self.refine
        if self.quality in COARSE:
            return max(REFINE, round(REFINE_SHARE * fitted))
        return REFINE_HIGH if self.quality == "high" and fitted >= LONG else 0

    def save(
        self,
        path: str | Path,
        gaussians: Gaussians,
        image: Any,
        on_stage: Callable[[int], object] | None = None,
        fitted: int = 0,
    ) -> None:
        """Write the Gaussians of a picture to a .t2d file, within target_bytes if that is given.

        Args:
            path: of the file.
            gaussians: of the picture.
            image: the picture, as `run` takes it. [H, W, C]
            on_stage: see `taichi2dgs.fitting.refine.refined`.
            fitted: steps of the fit that they come from; files of long ones are refined longer.

        Raises:
            ValueError: the file cannot be written.
            KeyboardInterrupt: Ctrl-C came while refining; there is no file.
        """
        t2d.write(path, self.file_of(gaussians, image, on_stage, path, fitted))

    def file_of(
        self,
        gaussians: Gaussians,
        image: Any,
        on_stage: Callable[[int], object] | None = None,
        name: str | Path = "file",
        fitted: int = 0,
    ) -> bytes:
        """Return the bytes that `save` writes; `name` is what messages call them."""
        if on_stage is not None and not callable(on_stage):
            raise ValueError(f"on_stage={shown(on_stage)}; expected a function, or None")
        steps = self.refine_steps(whole(fitted, "fitted", 0))
        data = encode_refined(gaussians, self.quality, image, steps, on_stage, self.progressive)
        if self.target_bytes is None or len(data) <= self.target_bytes:
            return data
        return self._unrefined(gaussians, name)  # their number was chosen to fit in target_bytes

    def save_unrefined(self, path: str | Path, gaussians: Gaussians) -> None:
        """Write Gaussians as they are to a .t2d file.

        Raises:
            ValueError: it would have more than target_bytes, or cannot be written.
        """
        t2d.write(path, self._unrefined(gaussians, path))

    def _unrefined(self, gaussians: Gaussians, name: str | Path) -> bytes:
        data = t2d.encode(gaussians, self.quality, self.progressive)
        if self.target_bytes is not None and len(data) > self.target_bytes:
            raise ValueError(f"{name}: {len(data)} bytes; expected {self.target_bytes} at most")
        return data

    def _start(self, image: Stack, k: int) -> Gaussians:
        """Return what a fit begins with; without a fit, in the colours that suit it best."""
        start = initialize(
            image, k, self.start, self.seed, weights=self.weights, steps=self.budget.foreseen
        )
        return self.solved(image, start)

    def solved(self, image: Stack, start: Gaussians) -> Gaussians:
        """Return a start, where there is no fit in the colours that suit it best."""
        if self.budget.foreseen:
            return start
        settings = self.options.settings or start.settings
        return solve_colors(image, replace(start, settings=settings), SOLVED)

    def _fit(self, image: Stack, k: int, on_report: OnReport | None) -> FitResult:
        return fit(
            image,
            self._start(image, k),
            steps=self.steps,
            seconds=self.seconds,
            options=self.options,
            on_report=None if on_report is None else lambda report: on_report(k, report),
        )

    def _search(
        self,
        image: Stack,
        aim: Aim,
        k: int,
        on_report: OnReport | None,
        probe: float = 0.0,
        tries: int = TRIES,
    ) -> FitResult:
        """Search from k Gaussians on; for `probe` see `Search`."""

        def go_on(
            start: Gaussians, share: float, rate: float, count: Count, report: Any
        ) -> FitResult:
            rates = {name: rate * getattr(self.options, name) for name in LEARNING_RATES}
            return fit_counted(
                image,
                start,
                count,
                steps=None if self.steps is None else math.ceil(self.steps * share),
                seconds=None if self.seconds is None else self.seconds * share,
                options=replace(self.options, **rates),
                on_report=report,
            )

        limit = most(image.image, image.weight)
        return Search(
            aim, lambda k: self._start(image, k), go_on, limit, probe, on_report, tries
        ).run(k)

    @property
    def _probe(self) -> float:
        """Share of the budget for a probe, where there is room for one."""
        has_room = (self.steps is None or self.steps >= SHORT) and self.seconds != 0
        return PROBE if has_room else 0.0

    def _search_bytes(self, image: Stack, target: int, on_report: OnReport | None) -> FitResult:
        def size(gaussians: Gaussians) -> int:
            return len(t2d.encode(gaussians, self.quality, self.progressive))

        k = round(target / BYTES_EACH[self.quality])
        result = self._search(image, BytesAim(target, size), k, on_report)
        if (fewest := size(result.gaussians)) > target:
            raise ValueError(
                f"target_bytes={target}: {fewest} bytes are the fewest found; "
                "expected a larger number"
            )
        return result
