"""A film of a fit: how its render sharpens, in equal steps of PSNR."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from taichi2dgs.fitting.options import FitResult, Report
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.storage import pictures
from taichi2dgs.storage.files import check_writable, writing
from taichi2dgs.storage.maps import displayed

FRAMES = 40
SECOND_OF_FRAME, HOLD = 0.08, 1.5  # seconds that a frame is shown, and the last one
LONGEST = 1024  # pixels, of a film's longer side
FIRST_STEP = 0.05  # dB between two frames that are kept, at first
MP4 = {"pyav": "av", "FFMPEG": "imageio_ffmpeg"}  # plug-ins of imageio, and the packages they need
ENDINGS = (".gif", ".webp", ".mp4")


class Film:
    """Collects frames of a fit while it goes on, and writes them.

    Of a fit nobody knows where it will end, so more frames are kept than are written: each that is
    some PSNR above the one before. When there are too many, every other goes, and the step doubles.

    Args:
        path: of the film; its ending says what it is.

    Raises:
        ValueError: such a film cannot be written, or needs a package that is not there.
    """

    def __init__(self, path: str) -> None:
        self.path, self.ending = path, Path(path).suffix.lower()
        if self.ending not in ENDINGS:
            raise ValueError(
                f"{path}: films cannot be written as {self.ending or 'a file without an ending'}; "
                f"expected {', '.join(ENDINGS)}"
            )
        # imageio would write a file of another kind, silently, if it found no plug-in by itself.
        self.plugin = "pillow" if self.ending != ".mp4" else _plugin(path)
        check_writable(path)
        self.kept: list[tuple[float, np.ndarray]] = []
        self.step = FIRST_STEP

    def report(self, k: int, report: Report) -> None:
        """Take a frame, if the render has become better by a step."""
        if report.step == 0:  # of a search, each fit begins anew
            self.kept, self.step = [], FIRST_STEP
        if self.kept and report.psnr < self.kept[-1][0] + self.step:
            return
        self.kept.append((report.psnr, _frame(report.gaussians)))
        if len(self.kept) > 2 * FRAMES:
            del self.kept[1::2]
            self.step *= 2

    def write(self, result: FitResult) -> str:
        """Write the film, with what a fit ends with as its last frame; return a line about it."""
        last = result.history[-1].psnr
        before = [kept for kept in self.kept if kept[0] < last]
        shown = [*chosen([psnr for psnr, _ in before], last, FRAMES - 1)]
        frames = [before[number][1] for number in shown] + [_frame(result.gaussians)]
        with writing(self.path) as temporary, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of plug-ins, on versions of what they use
            _write(temporary, np.stack(frames), self.ending, self.plugin)
        first = before[shown[0]][0] if shown else last
        size = Path(self.path).stat().st_size
        return (
            f"{self.path}: {len(frames)} frames from {first:.2f} to {last:.2f} dB, {size:,} bytes"
        )


def chosen(psnrs: list[float], last: float, count: int) -> list[int]:
    """Return which of some frames, of a rising PSNR, come nearest to equal steps up to the last.

    Of 20, 21, 22 and 29 dB before 30, three are 20, 22 and 29: steps would be 20, 23.3 and 26.7.
    """
    if not psnrs:
        return []
    levels = np.linspace(psnrs[0], last, count, endpoint=False)
    return sorted({int(np.abs(np.array(psnrs) - level).argmin()) for level in levels})


def _plugin(path: str) -> str:
    for plugin, package in MP4.items():
        if importlib.util.find_spec(package) is not None:
            return plugin
    raise ValueError(f"{path}: mp4 needs the package av; install the extra, taichi2dgs[film]")


def _frame(gaussians: Gaussians) -> np.ndarray:
    """A render in 8 bits, on white, no larger than a film is. [H, W, 3]"""
    scale = min(1.0, LONGEST / max(gaussians.size))
    image = gaussians.render(scale=scale)
    picture = pictures.encoded(displayed(image, gaussians.maps), "BMP")[0]
    return np.asarray(picture.convert("RGB"))


def _write(path: str, frames: np.ndarray, ending: str, plugin: str) -> None:
    import imageio.v3 as iio

    if ending != ".mp4":
        durations = [1000 * SECOND_OF_FRAME] * (len(frames) - 1) + [1000 * HOLD]
        more: dict[str, Any] = {"quality": 85} if ending == ".webp" else {}
        iio.imwrite(path, frames, plugin="pillow", duration=durations, loop=0, **more)
        return
    still = round(HOLD / SECOND_OF_FRAME) - 1
    frames = np.concatenate([frames, frames[-1:].repeat(still, 0)])
    height, width = frames.shape[1:3]  # which must be even
    frames = np.pad(frames, [(0, 0), (0, height % 2), (0, width % 2), (0, 0)], mode="edge")
    rate = 1 / SECOND_OF_FRAME
    if plugin == "pyav":
        iio.imwrite(path, frames, plugin=plugin, codec="libx264", fps=rate)
    else:
        iio.imwrite(path, frames, plugin=plugin, codec="libx264", fps=rate, macro_block_size=2)
