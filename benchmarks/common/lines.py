"""What figures of lines share: ours in colour, peers in grey, names at the ends of lines."""

from __future__ import annotations

import itertools
import statistics
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

MOST = 6  # lines of one panel that can be told apart
WIDTH, HEIGHT = 7.4, 4.3  # of a panel, in inches
DPI = 220  # twice the pixels of a README's column, for screens that have them
OURS = ("ours", "taichi2dgs", ".t2d")  # what names of our own lines begin with
COLORS = ("#0a63c2", "#dd5a0c", "#0f8a6d", "#9c36b5", "#b3261e", "#8a6d00")
GREYS = (
    ("#3b3b3b", "-", "o"),
    ("#6f6f6f", "-", "s"),
    ("#3b3b3b", "--", "^"),
    ("#6f6f6f", "--", "D"),
    ("#3b3b3b", ":", "v"),
    ("#6f6f6f", "-.", "P"),
)
TEXT = 9.0  # points
BESIDE = 9.0  # points from the end of a line to its name
EDGE = 0.08  # share of a panel: what ends there has its name in the column at the right
APART = 1.25 * TEXT  # points between the middles of two names
HALO = [withStroke(linewidth=2.5, foreground="white")]  # keeps text readable upon lines


def is_ours(name: str) -> bool:
    return name.startswith(OURS)


def machine(name: str) -> str:
    """Return the name of a machine without what says nothing: Intel Xeon, 2 cores."""
    return name.replace("(R)", "").replace(" Processor", "")


def styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return how the line of each name is drawn: ours in colours, peers in greys."""
    ours = [name for name in names if is_ours(name)]
    peers = [name for name in names if not is_ours(name)]
    of_ours = {
        name: {"color": color, "ls": "-", "marker": "o", "lw": 2.2, "ms": 4.5, "zorder": 4}
        for name, color in zip(ours, itertools.cycle(COLORS), strict=False)
    }
    of_peers = {
        name: {"color": grey, "ls": dashes, "marker": marker, "lw": 1.5, "ms": 4, "zorder": 3}
        for name, (grey, dashes, marker) in zip(peers, itertools.cycle(GREYS), strict=False)
    }
    return of_ours | of_peers


def panels(count: int, height: float = HEIGHT) -> tuple[Figure, list[Axes]]:
    """Return a figure of so many panels, one below the other, each as wide as a page."""
    layout = ConstrainedLayoutEngine(h_pad=0.12 if count > 1 else 0.05)
    figure, axes = plt.subplots(
        count, 1, figsize=(WIDTH, height * count), squeeze=False, layout=layout
    )
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="0.9")
        axis.set_axisbelow(True)
    return figure, list(axes.flat)


def head(axis: Axes, title: str, about: str) -> None:
    """Write a title above a panel, and below it, smaller, what was measured where."""
    about = textwrap.fill(about, 108)
    below = 11 * (1 + about.count("\n"))
    axis.set_title(title, loc="left", fontsize=11.5, fontweight="bold", pad=10 + below)
    axis.annotate(
        about,
        (0, 1),
        (0, 7),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=8.5,
        color="0.35",
    )


def name_ticks(axis: Axes, values: Sequence[float]) -> None:
    """Name values on the x axis, but those whose name would touch that of a larger one."""
    places = axis.transData.transform([(value, axis.get_ylim()[0]) for value in values])[:, 0]
    least, kept = 0.07 * axis.bbox.width, []
    for value, place in sorted(zip(values, places, strict=True), reverse=True):
        if not kept or kept[-1][1] - place >= least:
            kept.append((value, place))
    named = [value for value, _ in reversed(kept)]
    axis.set_xticks(named, [f"{value:,.12g}" for value in named])
    axis.minorticks_off()


def name_ends(figure: Figure, form: str = "{name}  {value:.1f}") -> None:
    """Write the name and the last value of each line at its end, no two upon one another.

    A name that had to move has a thin line to the end that it belongs to. This comes last, since
    the panels keep their places from here on.

    Args:
        figure: whose lines have labels.
        form: of the text.
    """
    texts = {
        axis: {line: _text(axis, line, form) for line in axis.lines if _is_named(line)}
        for axis in figure.axes
    }
    figure.draw_without_rendering()  # gives each panel its place beside the names
    figure.set_layout_engine("none")
    for axis, of_axis in texts.items():
        ends = {line: float(axis.transData.transform(_end(line))[0]) for line in of_axis}
        edge = max(ends.values(), default=0.0) - EDGE * axis.bbox.width
        at_edge = {line: text for line, text in of_axis.items() if ends[line] >= edge}
        _stack(axis, at_edge, 72 / figure.dpi)
        others = [text for text in axis.texts if text not in of_axis.values()]
        placed = [*others, *at_edge.values()]
        for text in [text for line, text in of_axis.items() if line not in at_edge]:
            _find_room(axis, text, placed)
            placed.append(text)
        for line, text in of_axis.items():
            _lead(axis, line, text.get_position()[1])


def _stack(axis: Axes, texts: dict[Line2D, Annotation], points: float) -> None:
    """Move names up or down, as little as they need to be one above the other.

    Args:
        axis: the panel.
        texts: the names of lines that end at its right edge.
        points: in a pixel.
    """
    ends = [float(axis.transData.transform(_end(line))[1]) * points for line in texts]
    places = spread(ends, APART, (axis.bbox.y0 * points, axis.bbox.y1 * points))
    for text, end, place in zip(texts.values(), ends, places, strict=True):
        text.set_position((BESIDE, place - end))


def _find_room(axis: Axes, text: Annotation, placed: Sequence[Text]) -> None:
    """Move the name of a line that ends early to the nearest place that is upon nothing."""
    paths = [line.get_transform().transform_path(line.get_path()) for line in axis.lines]
    boxes = [other.get_window_extent() for other in placed]
    for up in sorted(range(-60, 61, 3), key=abs):
        text.set_position((BESIDE, up))
        box = text.get_window_extent()
        free = not any(path.intersects_bbox(box, filled=False) for path in paths)
        if free and not box.count_overlaps(boxes) and axis.bbox.y0 < box.y0 < box.y1 < axis.bbox.y1:
            return
    text.set_position((BESIDE, 0))


def spread(wanted: Sequence[float], apart: float, span: tuple[float, float]) -> list[float]:
    """Return the places nearest to those that are wanted, each at least `apart` from the next.

    Nearest by the sum of squares, in the same order, and within the span if that has room:
    0, 1 and 9, at least 4 apart, become -1.5, 2.5 and 9.
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    # What touches moves as one: without the distances within, it has one place, its mean.
    groups: list[list[float]] = []
    for rank, index in enumerate(order):
        groups.append([wanted[index] - rank * apart])
        while len(groups) > 1 and statistics.fmean(groups[-2]) > statistics.fmean(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    low, high = span[0], max(span[0], span[1] - (len(wanted) - 1) * apart)
    means = [min(max(statistics.fmean(group), low), high) for group in groups for _ in group]
    places = dict(zip(order, means, strict=True))
    return [places[index] + order.index(index) * apart for index in range(len(wanted))]


def hide_touching(texts: Sequence[Text]) -> None:
    """Hide the texts that touch one before them."""
    boxes: list[Bbox] = []
    for text in texts:
        box = Text.get_window_extent(text)
        text.set_visible(not box.count_overlaps(boxes))
        boxes += [box] if text.get_visible() else []


def save(figure: Figure, path: Path) -> None:
    """Write a figure, without loss: lines take less room so than with it."""
    figure.savefig(path, dpi=DPI, pil_kwargs={"lossless": True})
    plt.close(figure)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


def _text(axis: Axes, line: Line2D, form: str) -> Annotation:
    """Write the name of a line beside its end."""
    x, y = _end(line)
    return axis.annotate(
        form.format(name=line.get_label(), value=y),
        (x, y),
        (BESIDE, 0),
        textcoords="offset points",
        va="center",
        fontsize=TEXT,
        color=line.get_color(),
        fontweight="bold" if is_ours(str(line.get_label())) else "normal",
        path_effects=HALO,
        annotation_clip=False,
        zorder=5,
    )


def _lead(axis: Axes, line: Line2D, up: float) -> None:
    """Draw a thin line from the end of a line to its name, so many points up, if it is far."""
    if abs(up) <= 2:
        return
    style = {"arrowstyle": "-", "lw": 0.7, "color": line.get_color(), "shrinkA": 0, "shrinkB": 3}
    axis.annotate(
        "", _end(line), (BESIDE, up), textcoords="offset points", arrowprops=style,
        annotation_clip=False,
    )  # fmt: skip


def _is_named(line: Line2D) -> bool:
    """Whether a line was given a label: those of matplotlib begin with an underscore."""
    return not str(line.get_label()).startswith("_")


def _end(line: Line2D) -> tuple[float, float]:
    x, y = np.asarray(line.get_data(), float)[:, -1]
    return float(x), float(y)
