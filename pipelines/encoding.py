"""From a picture to fitted Gaussians, and how many there should be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from nets.detail import gradient_magnitude
from pipelines.defaults import AUTO, QUALITY, REFINE, REFINED, SECONDS, START, K
from pipelines.search import search
from pipelines.starts.named import checked_start, initialize
from pipelines.starts.sampling import checked_count
from taichi2dgs.checks import number, shown, whole
from taichi2dgs.fitting.budget import Budget
from taichi2dgs.fitting.colors import solve_colors
from taichi2dgs.fitting.fit import fit
from taichi2dgs.fitting.options import FitInterrupted, FitOptions, FitResult, Report
from taichi2dgs.fitting.refine import encode_refined
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.settings import QUALITIES
from taichi2dgs.storage import t2d
from taichi2dgs.storage.maps import Stack
from taichi2dgs.storage.stacks import as_stack

OPTIONS = FitOptions()
AUTO_PSNR = 38.0  # dB, about what an automatic number reaches
# Of 12 training photographs, fitted for 60 steps: Gaussians per pixel that reach AUTO_PSNR are
# DENSITY * detail ** POWER, to within a factor of 1.23 in two cases of three; while k grows e-fold,
# SLOPE dB are gained. benchmarks/calibrate_count.py measures them.
DENSITY, POWER, SLOPE = 6.82, 1.83, 6.6
LARGEST_POWER = 100.0  # e to this power is more than any picture asks for, and still a float
SOLVED = 2  # steps of `solve_colors` where there is no fit; a fit's own first steps do more
PSNR_WITHIN = 0.5  # dB that a result may be off its target
BYTES_EACH = {"lossless": 26.0, "high": 6.5, "medium": 5.0, "small": 4.1}  # bytes in a file
FILLED = (0.955, 0.98, 0.995)  # shares of the bytes: least, aimed at, most; refining adds a little

OnReport = Callable[[int, Report], object]


@dataclass(frozen=True)
class Encoding:
    """How pictures are encoded: `taichi2dgs.encode` in parts, which keeps the PSNR and the reports.

    Args:
        k: number of Gaussians; "auto" takes as many as the picture's detail asks for, about what
            makes 38 dB; None is 50,000 where there is no target.
        target_psnr: find the number of Gaussians that ends within 0.5 dB of this.
        target_bytes: find the largest number whose file takes no more than this.
        quality: of the file; see `Gaussians.save`.
        refine: steps that make up for what rounding costs; None is 200 where the quality
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
        budget = Budget(self.steps, self.seconds)
        object.__setattr__(self, "steps", budget.steps)
        object.__setattr__(self, "seconds", budget.seconds)
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
        if self.target_psnr is not None:  # it may have come as a tensor
            object.__setattr__(self, "target_psnr", number(self.target_psnr))
        if self.target_bytes is not None:
            object.__setattr__(self, "target_bytes", int(number(self.target_bytes)))
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
        """Encode one picture. With a target that is a search: mostly two fits, at most five.

        Args:
            image: what `taichi2dgs.encode` takes: a path, a PIL image, an array or tensor
                [H, W, C], or a stack.
            on_report: called with the number of Gaussians and every report of every fit.

        Returns:
            The fit that counts; where no number reaches target_psnr, the nearest one.

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
        if self.target_psnr is None and self.target_bytes is None:
            k = automatic_count(image.image) if self._automatic else checked_count(self.k or K)
            return self._fit(image, k, on_report)
        if self.target_psnr is not None:
            return self._search_psnr(image, self.target_psnr, on_report)
        return self._search_bytes(image, self.target_bytes or 0, on_report)

    @property
    def _automatic(self) -> bool:
        return isinstance(self.k, str) and self.k == AUTO

    @property
    def refine_steps(self) -> int:
        """Steps for which files are refined."""
        if self.refine is None:
            return REFINE if self.quality in REFINED else 0
        return self.refine

    def save(
        self,
        path: str | Path,
        gaussians: Gaussians,
        image: Any,
        on_stage: Callable[[int], object] | None = None,
    ) -> None:
        """Write the Gaussians of a picture to a .t2d file, within target_bytes if that is given.

        Args:
            path: of the file.
            gaussians: of the picture.
            image: the picture, as `run` takes it. [H, W, C]
            on_stage: see `taichi2dgs.fitting.refine.refined`.

        Raises:
            ValueError: the file cannot be written.
            KeyboardInterrupt: Ctrl-C came while refining; there is no file.
        """
        if on_stage is not None and not callable(on_stage):
            raise ValueError(f"on_stage={shown(on_stage)}; expected a function, or None")
        data = encode_refined(
            gaussians, self.quality, image, self.refine_steps, on_stage, self.progressive
        )
        if self.target_bytes is not None and len(data) > self.target_bytes:
            self.save_unrefined(path, gaussians)  # their number was chosen to fit in target_bytes
        else:
            t2d.write(path, data)

    def save_unrefined(self, path: str | Path, gaussians: Gaussians) -> None:
        """Write Gaussians as they are to a .t2d file.

        Raises:
            ValueError: it would have more than target_bytes, or cannot be written.
        """
        data = t2d.encode(gaussians, self.quality, self.progressive)
        if self.target_bytes is not None and len(data) > self.target_bytes:
            raise ValueError(f"{path}: {len(data)} bytes; expected {self.target_bytes} at most")
        t2d.write(path, data)

    def _fit(self, image: Stack, k: int, on_report: OnReport | None) -> FitResult:
        start = initialize(image, k, self.start, self.seed, weights=self.weights)
        if 0 in (self.steps, self.seconds):
            settings = self.options.settings or start.settings
            start = solve_colors(image, replace(start, settings=settings), SOLVED)
        return fit(
            image,
            start,
            steps=self.steps,
            seconds=self.seconds,
            options=self.options,
            on_report=None if on_report is None else lambda report: on_report(k, report),
        )

    def _search_psnr(self, image: Stack, target: float, on_report) -> FitResult:
        def off(result: FitResult) -> float:
            return result.history[-1].psnr - target

        def nearest(results: list[FitResult]) -> FitResult:
            return min(results, key=lambda result: abs(off(result)))

        found: list[FitResult] = []
        try:
            search(
                found,
                lambda k: self._fit(image, k, on_report),
                off,
                automatic_count(image.image, target),
                SLOPE,
                (-PSNR_WITHIN, PSNR_WITHIN),
                _most(image.image),
            )
        except KeyboardInterrupt as stop:
            there = found or _unfinished(stop)
            if not there:
                raise
            raise FitInterrupted(nearest(there)) from None
        return nearest(found)

    def _search_bytes(self, image: Stack, target: int, on_report) -> FitResult:
        def size(result: FitResult) -> int:
            return len(t2d.encode(result.gaussians, self.quality, self.progressive))

        def within(results: list[FitResult]) -> list[FitResult]:
            """The largest that is small enough, if there is one."""
            enough = [result for result in results if size(result) <= target]
            return [max(enough, key=size)] if enough else []

        found: list[FitResult] = []
        least, aim, most = (math.log(share * target) for share in FILLED)
        try:
            search(
                found,
                lambda k: self._fit(image, k, on_report),
                lambda result: math.log(size(result)) - aim,
                max(1, round(target / BYTES_EACH[self.quality])),
                1.0,
                (least - aim, most - aim),
                _most(image.image),
            )
        except KeyboardInterrupt as stop:
            partial = _unfinished(stop)
            there = within(found) or within(partial) or found or partial
            if not there:
                raise
            raise FitInterrupted(min(there, key=size)) from None
        if not within(found):
            raise ValueError(
                f"target_bytes={target}: {min(map(size, found))} bytes are the fewest found; "
                "expected a larger number"
            )
        return within(found)[0]


def automatic_count(image: Tensor, psnr: float = AUTO_PSNR) -> int:
    """Return how many Gaussians should reach a PSNR, from the picture's mean gradient magnitude.

    Args:
        image: values in [0, 1]. [H, W, C]
        psnr: in dB.
    """
    detail = float(gradient_magnitude(image.permute(2, 0, 1)[None].float()).mean())
    more = math.exp(min((psnr - AUTO_PSNR) / SLOPE, LARGEST_POWER))
    per_pixel = DENSITY * detail**POWER * more
    return max(1, min(_most(image), round(per_pixel * image.shape[0] * image.shape[1])))


def _most(image: Tensor) -> int:
    """One Gaussian per pixel, or what a file holds."""
    return min(image.shape[0] * image.shape[1], t2d.MAX_K)


def _unfinished(stop: KeyboardInterrupt) -> list[FitResult]:
    """The result of an interrupted fit, if Ctrl-C came in one."""
    return [stop.result] if isinstance(stop, FitInterrupted) else []
