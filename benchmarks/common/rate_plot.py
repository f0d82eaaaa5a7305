"""The plot of run_rate.py: quality against rate, and where each number of Gaussians is."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from common import lines, rate_page, table
from common.rate_page import PUBLISHED, RATES
from common.rates import Curve

SPAN = 0.065, 1.55  # bits a pixel that are shown
GRID = [float(rate) for rate in np.geomspace(RATES[0], RATES[-1], 60)]
COLUMNS = {"codec", "image", "setting", "bpp", "psnr"}


def read(path: Path) -> tuple[dict[str, Any], list[dict]]:
    """Return what a file of run_rate.py says of its run, and the rows that its last run finished.

    That of a run which was killed has rows of a picture that was begun, too.

    Raises:
        ValueError: it is no such file, or no picture is finished.
    """
    try:
        run = json.loads(path.read_text())
        rows = run.pop("rows")
        known = all(row.keys() >= COLUMNS for row in rows) and {"pictures", "machine"} <= run.keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        run, rows, known = {}, [], False
    if not (rows and known):
        raise ValueError(
            f"--table {path}: expected JSON with rows of {', '.join(sorted(COLUMNS))}, "
            "as run_rate.py writes it"
        )
    images = [
        {row["image"] for row in group} for group in table.grouped(rows, ("codec", "setting"))
    ]
    finished = set.intersection(*images)
    if not finished:
        raise ValueError(f"--table {path}: no picture has every codec and number; expected one")
    if finished != set.union(*images):
        run["pictures"] += f" ({len(finished)} drawn)"
    return run, [row for row in rows if row["image"] in finished]


def draw(run: dict[str, Any], rows: list[dict]) -> Figure:
    """Draw mean PSNR against bits a pixel: files, with their numbers of Gaussians, and codecs.

    Points that others publish are drawn, too, and marked as such. Of the files of each budget, the
    preset of `best_presets` is drawn; the highest curve has numbers at its dots.

    Args:
        run: see `measure.describe`.
        rows: of run_rate.py.
    """
    curves = rate_page.curves_of(rows, "psnr")
    ours = best_presets(curves)
    names = ours + [codec for codec in curves if not rate_page.is_ours(codec)]
    styles = lines.styles(names)
    figure, (axis,) = lines.panels(1, 5.4)
    marks = {name: marks_of(rows, name, curves[name]) for name in ours}
    for name in names:
        points = [(rate, rate_page.mean_at(curves[name], rate)) for rate in GRID]
        known = [(rate, psnr) for rate, psnr in points if psnr is not None]
        known += marks.get(name, {}).values()
        if known:
            style = {**styles[name], "marker": ""}
            axis.plot(*zip(*sorted(known), strict=True), label=name, **style)
        for place in marks.get(name, {}).values():
            axis.plot(*place, "o", color=styles[name]["color"], ms=5, zorder=5)
    mark_published(axis)
    about = f"{run['pictures']}; dots: files of k Gaussians; {lines.machine(run['machine'])}"
    lines.head(axis, "Files of Gaussians beside picture codecs: PSNR against bits a pixel", about)
    axis.set_xscale("log")
    axis.set_xlim(*SPAN)
    axis.set_xlabel("bits a pixel of complete files")
    axis.set_ylabel("mean PSNR of 8-bit pixels, dB")
    lines.name_ticks(axis, RATES)
    highest = ours[0] if ours else ""
    texts = name_marks(axis, marks.get(highest, {}), lines.COLORS[0])
    lines.name_ends(figure, "{name}")
    lines.hide_touching(texts)
    return figure


def best_presets(curves: dict[str, dict[str, Curve]]) -> list[str]:
    """Return the best preset of each budget: in the mean over the rates that all of them have.

    Args:
        curves: of each codec, by picture.

    Returns:
        Their names, that of the highest curve first.
    """
    budgets: dict[str, dict[str, dict[float, float]]] = {}
    for codec in filter(rate_page.is_ours, curves):
        found = {rate: rate_page.mean_at(curves[codec], rate) for rate in GRID}
        known = {rate: psnr for rate, psnr in found.items() if psnr is not None}
        budgets.setdefault(codec.rpartition(", ")[2], {})[codec] = known
    best: dict[str, float] = {}
    for presets in budgets.values():
        shared = set.intersection(*map(set, presets.values()))
        total = {codec: sum(found[rate] for rate in shared) for codec, found in presets.items()}
        name = max(presets, key=lambda codec: (total[codec], len(presets[codec])))
        best[name] = max(presets[name].values(), default=0.0)
    return sorted(best, key=lambda codec: -best[codec])


def marks_of(
    rows: list[dict], codec: str, curves: dict[str, Curve]
) -> dict[int, tuple[float, float]]:
    """Return the mean rate of files of each number of Gaussians, and their place on the curve."""
    places = {}
    for group in table.grouped([row for row in rows if row["codec"] == codec], ("setting",)):
        rate = statistics.fmean(row["bpp"] for row in group)
        psnr = rate_page.mean_at(curves, rate)
        if SPAN[0] <= rate <= SPAN[1]:
            mean = statistics.fmean(row["psnr"] for row in group)
            places[group[0]["setting"]] = (rate, mean if psnr is None else psnr)
    return places


def name_marks(axis: Axes, places: dict[int, tuple[float, float]], color: str) -> list[Annotation]:
    """Write each number of Gaussians beside its place on a curve, which rises to the right.

    That is below it, where nothing of the curve is; at the right edge, above it.
    """
    texts = []
    for index, (k, place) in enumerate(sorted(places.items())):
        at_edge = place[0] > 0.8 * SPAN[1]
        text = axis.annotate(
            f"k = {k:,}" if index == 0 else f"{k:,}",
            place,
            (-4, 5) if at_edge else (4, -5),
            textcoords="offset points",
            ha="right" if at_edge else "left",
            va="bottom" if at_edge else "top",
            fontsize=8,
            color=color,
            path_effects=lines.HALO,
            zorder=6,
        )
        texts.append(text)
    return texts


def mark_published(axis: Axes) -> None:
    """Mark the points that others publish, joined where a paper has several."""
    for (name, points), marker in zip(PUBLISHED.items(), "os^", strict=True):
        axis.plot(
            *zip(*points, strict=True), marker=marker, mfc="white", mec="0.35", color="0.6", lw=0.7,
            ls=":", ms=6, zorder=2,
        )  # fmt: skip
        axis.annotate(
            f"{name},\nas published",
            points[-1],
            (8, -4),
            textcoords="offset points",
            va="bottom",
            fontsize=8,
            color="0.35",
            path_effects=lines.HALO,
        )
