"""What notebooks show: a picture and a line for Gaussians, a curve for a fit, the page itself."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from taichi2dgs.checks import whole
from taichi2dgs.storage import t2d
from taichi2dgs.storage.maps import displayed
from taichi2dgs.storage.stacks import as_stack
from taichi2dgs.viewing import page

if TYPE_CHECKING:
    from taichi2dgs.gaussians import Gaussians

LONGEST = 768  # pixels of a picture's longer side, in a cell
WIDE, HIGH, LEFT, BELOW = 480, 200, 44, 28  # of a curve, and of its margins
INK = "#7c5cff"


class Page:
    """The page with Gaussians in it, which a notebook shows where it is the last value of a cell.

    Args:
        gaussians: to show.
        other: an original picture or other Gaussians to compare them with, if any.
        height: of the frame, in pixels of style.

    Raises:
        ValueError: an argument does not fit.
    """

    def __init__(self, gaussians: Gaussians, other: Any = None, height: int = 640) -> None:
        self.height = whole(height, "height", 100, 10_000)
        shown = {"gaussians.t2d": t2d.encode(gaussians, "high")}
        if other is not None:
            is_like = isinstance(other, type(gaussians))
            stack = None if is_like else as_stack(other)
            image = None if stack is None else displayed(stack.image, stack.maps)
            size = other.size if image is None else tuple(image.shape[:2])
            if size != gaussians.size:
                raise ValueError(f"other has size {size}; expected {gaussians.size}")
            if image is None:
                shown["other.t2d"] = t2d.encode(other, "high")
            else:
                shown["original.png"] = page.picture(image, "other")
        self.whole = page.standalone(shown)

    def __repr__(self) -> str:
        return "Page(a notebook shows it; elsewhere, `taichi2dgs view` does)"

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self.whole)}" sandbox="allow-scripts allow-downloads" '
            f'style="width:100%;height:{self.height}px;border:0;border-radius:8px"></iframe>'
        )


def of_gaussians(gaussians: Gaussians) -> str:
    """Return a picture of Gaussians and one line of numbers, as HTML."""
    height, width = gaussians.size
    image = gaussians.render(scale=min(1.0, LONGEST / max(height, width))).detach()
    data = base64.b64encode(page.picture(displayed(image, gaussians.maps), "render"))
    s = gaussians.settings
    blend = "sum" if s.blend == "sum" else f"nearest {s.top_k}"
    line = f"{len(gaussians):,} Gaussians, {height}x{width}, {gaussians.channels} channels, {blend}"
    source = f"data:image/png;base64,{data.decode()}"
    return f'<img src="{source}" style="max-width:100%" alt="Their render"><div>{line}</div>'


def of_fit(gaussians: Gaussians, history: Sequence[Any]) -> str:
    """Return the curve of a fit's reports and one line of numbers, as HTML."""
    last = history[-1]
    line = (
        f"{len(gaussians):,} Gaussians, PSNR {last.psnr:.2f} dB after {last.step} steps, "
        f"{last.seconds:.1f} s"
    )
    return f"{curve([(report.seconds, report.psnr) for report in history])}<div>{line}</div>"


def curve(points: list[tuple[float, float]]) -> str:
    """Return a curve of dB against seconds as SVG; its ink suits light pages and dark ones."""
    points = [(x, min(y, 999.0)) for x, y in points]
    low, high = min(y for _, y in points), max(y for _, y in points)
    step = next((s for s in (1, 2, 5, 10, 20, 50) if (high - low) / s <= 4), 100)
    low, high = low // step * step, (high // step + 1) * step
    most = max(points[-1][0], 1e-3)

    def place(x: float, y: float) -> tuple[float, float]:
        across, down = (WIDE - LEFT - 8) * x / most, (HIGH - BELOW - 8) * (high - y) / (high - low)
        return LEFT + across, 8 + down

    parts = []
    for mark in range(round((high - low) / step) + 1):
        y = place(0, low + mark * step)[1]
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDE - 8}" stroke="currentColor" opacity=".15"/>')
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{low + mark * step:g}</text>'
        )
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (place(*point) for point in points))
    x, y = place(*points[-1])
    return (
        f'<svg viewBox="0 0 {WIDE} {HIGH}" width="{WIDE}" style="max-width:100%" font-size="12" '
        f'fill="currentColor" role="img" aria-label="PSNR in dB against seconds">{"".join(parts)}'
        f'<text x="{WIDE - 8}" y="{HIGH - 6}" text-anchor="end">{most:.3g} s</text>'
        f'<text x="{LEFT}" y="{HIGH - 6}">PSNR in dB</text>'
        f'<path d="M{path}" fill="none" stroke="{INK}" stroke-width="2" stroke-linejoin="round"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{INK}"/></svg>'
    )
