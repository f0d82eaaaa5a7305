"""Figures drawn from the JSON of run_kodak.py or run_datasets.py: PSNR against what it costs."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from common import table
from common.fits import KINDS

Points = list[tuple[float, float]]
FAMILIES = {
    "taichi2dgs, learned start": ("ours",),
    "taichi2dgs, gradient start": ("ours-gradient",),
    "Fast-2DGS's optimiser": ("fast-2dgs-published", "fast-2dgs-published-tuned"),
    "Image-GS": tuple(
        f"image-gs-{start}{end}" for start in ("gradient", "saliency") for end in ("", "-tuned")
    ),
    "GaussianImage": tuple(
        f"gaussianimage-{shape}{end}" for shape in ("cholesky", "rs") for end in ("", "-tuned")
    ),
}
APART = 1.7  # dB between two names
COLUMNS = {"image", *KINDS, "gaussians", "psnr_at", "psnr_within", "psnr"}


def read(path: Path) -> list[dict]:
    """Return the rows of a table.

    Raises:
        ValueError: there are none like those that run_kodak.py writes.
    """
    try:
        rows = json.loads(path.read_text())["rows"]
        known = all(row.keys() >= COLUMNS for row in rows)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        rows, known = [], False
    if not (rows and known):
        raise ValueError(
            f"--table {path}: expected JSON with rows of {', '.join(sorted(COLUMNS))}, "
            "as run_kodak.py writes it"
        )
    return rows


def read_all(paths: list[Path]) -> list[dict]:
    """Return the rows of several tables.

    Raises:
        ValueError: a file is no table, or two have the same picture in the same kind of fit.
    """
    rows, seen = [], {}
    for path in paths:
        for row in read(path):
            kind = tuple(row[name] for name in ("image", *KINDS))
            if kind in seen:
                raise ValueError(
                    f"--table {path}: has {' '.join(map(str, kind))}, as {seen[kind]} has; "
                    "expected each in one file"
                )
            seen[kind] = path
            rows.append(row)
    return rows


def draw_iterations(rows: list[dict]) -> Figure:
    """Mean PSNR against iterations: a panel for each number of Gaussians of each dataset."""
    return draw(rows, ("dataset", "k"), lambda group: reached(group, "psnr_at"), "iterations")


def draw_seconds(rows: list[dict]) -> Figure:
    """Mean PSNR against the seconds of a fit, method by method."""
    return draw(rows, ("dataset", "k"), lambda group: reached(group, "psnr_within"), "seconds")


def draw_count(rows: list[dict]) -> Figure:
    """Mean PSNR at the end against the mean number of Gaussians: a panel for each dataset."""
    return draw(rows, ("dataset",), at_end, "Gaussians")


def reached(group: list[dict], name: str) -> Points:
    """Return the mean PSNRs after each budget that every picture's fit has reached."""
    budgets = [at for at in group[0][name] if all(at in row[name] for row in group)]
    return [(float(at), statistics.fmean(row[name][at] for row in group)) for at in budgets]


def at_end(group: list[dict]) -> Points:
    points = []
    for of_k in table.grouped(group, ("k",)):
        x, y = ([row[name] for row in of_k] for name in ("gaussians", "psnr"))
        points.append((statistics.fmean(x), statistics.fmean(y)))
    return sorted(points)


def draw(
    rows: list[dict], by: tuple[str, ...], points_of: Callable[[list[dict]], Points], unit: str
) -> Figure:
    """Draw a panel for each group of rows, and in it a line for each method and sampler.

    A method and the same with tuned settings have one colour; the latter's line is dashed. Earlier
    methods are drawn over later ones.
    """
    groups = sorted(table.grouped(rows, by), key=lambda group: [group[0][name] for name in by])
    names = list(dict.fromkeys(untuned(table.name_of(row)) for row in rows))
    colors = plt.get_cmap("tab10" if len(names) <= 10 else "tab20")
    size = ((5 if len(groups) == 1 else 3.6) * len(groups) + 1.8, 3.6)
    figure, axes = plt.subplots(1, len(groups), figsize=size, squeeze=False, layout="constrained")
    lines = {}
    for axis, group in zip(axes.flat, groups, strict=True):
        ticks = set()
        for of_method in table.grouped(group, ("method", "sampler")):
            name = table.name_of(of_method[0])
            points = points_of(of_method)
            # A method can have its own number of Gaussians.
            ticks |= {row["k"] for row in group} if unit == "Gaussians" else {x for x, _ in points}
            if points:
                own = untuned(name)
                (lines[name],) = axis.plot(
                    *zip(*points, strict=True),
                    "o-" if own == name else "o--",
                    ms=3,
                    color=colors(names.index(own)),
                    zorder=2 + 1 / (1 + names.index(own)),
                )
        k = f", k = {group[0]['k']:,}" if "k" in by else ""
        count = len({row["image"] for row in group})
        axis.set_title(f"{group[0]['dataset']} ({count}){k}", fontsize=9)
        scale(axis, unit, sorted(ticks))
    axes.flat[0].set_ylabel("mean PSNR, dB")
    figure.legend(lines.values(), lines.keys(), loc="outside right upper", fontsize=7)
    return figure


def untuned(name: str) -> str:
    """Return the name of the method that a tuned one is of, or its own."""
    return name.replace("-tuned", "")


def scale(axis: Axes, unit: str, ticks: list[float]) -> None:
    """Let the x axis grow by factors, with plain numbers at its ticks."""
    if unit == "iterations":
        axis.set_xscale("symlog", linthresh=25)
    else:
        axis.set_xscale("log")
    axis.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axis.minorticks_off()
    axis.set_xlabel(unit)
    axis.grid(alpha=0.3)


def draw_best(rows: list[dict]) -> Figure:
    """Mean PSNR within seconds of the best variant of each of FAMILIES, its name at its line."""
    figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    lines = {}
    for name, methods in FAMILIES.items():
        best: dict[float, float] = {}
        for group in table.grouped([row for row in rows if row["method"] in methods], KINDS):
            for at, psnr in reached(group, "psnr_within"):
                best[at] = max(psnr, best.get(at, psnr))
        if best:
            points = sorted(best.items())
            (lines[name],) = axis.plot(*zip(*points, strict=True), "o-", ms=4)
    label(axis, lines)
    scale(axis, "seconds", sorted({float(x) for line in lines.values() for x in line.get_xdata()}))
    axis.set_ylabel("mean PSNR, dB")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def label(axis: Axes, lines: dict[str, Line2D]) -> None:
    """Write the name of each line at its end, in its colour, no two on one another."""
    below = math.inf
    ends = {name: np.asarray(line.get_data())[:, -1] for name, line in lines.items()}
    for name, (x, y) in sorted(ends.items(), key=lambda end: -end[1][1]):
        below = min(y, below - APART)
        axis.annotate(
            name,
            (x, below),
            (8, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=lines[name].get_color(),
            annotation_clip=False,
        )
