"""The progress bar of a fit."""

from __future__ import annotations

from tqdm import tqdm

from pipelines.encoding import Encoding
from taichi2dgs.fitting.options import Report


class FitBar:
    """A progress bar of steps or of seconds, or of what runs out first, with the PSNR.

    Until the first report, the start is made and kernels are compiled, and it says so.
    """

    def __init__(self, encoding: Encoding, hidden: bool | None) -> None:
        self.steps, self.seconds = encoding.steps, encoding.seconds
        unit = "s" if self.steps is None else "its"
        form = "{desc} {percentage:3.0f}%|{bar}| "
        if self.steps is None or self.seconds is None:
            form += "{n:.4g}/{total:.4g} " + unit
        self.bar = tqdm(
            total=self.seconds if self.steps is None else self.steps,
            disable=hidden,
            bar_format=form + "{postfix}",
            desc="encode: start, and compiling",
        )

    def show(self, k: int, report: Report) -> None:
        parts = [
            done / most
            for done, most in ((report.step, self.steps), (report.seconds, self.seconds))
            if most
        ]
        self.bar.n = min(max(parts, default=1.0), 1.0) * self.bar.total
        self.bar.set_description_str(f"encode, {k} Gaussians", refresh=False)
        self.bar.set_postfix_str(f"PSNR {report.psnr:.2f} dB, step {report.step}")

    def __enter__(self) -> FitBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
