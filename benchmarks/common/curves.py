"""Figures drawn from the JSON of run_kodak.py or run_datasets.py: PSNR against what it costs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from common import lines, table
from common.fits import KINDS

Points = list[tuple[float, float]]
# Drawn first of a table with more methods: ours, the row of each peer that ends highest, and
# Fast-2DGS as published.
PREFERRED = (
    "ours",
    "instant-gi",
    "fast-2dgs-published-tuned",
    "image-gs-gradient-tuned",
    "gaussianimage-rs-tuned",
    "fast-2dgs-published",
)
FAMILIES = {
    "taichi2dgs, learned start": ("ours",),
    "taichi2dgs, gradient start": ("ours-gradient",),
    "Instant-GI": ("instant-gi",),
    "Fast-2DGS's optimiser": ("fast-2dgs-published", "fast-2dgs-published-tuned"),
    "Image-GS": tuple(
        f"image-gs-{start}{end}" for start in ("gradient", "saliency") for end in ("", "-tuned")
    ),
    "GaussianImage": tuple(
        f"gaussianimage-{shape}{end}" for shape in ("cholesky", "rs") for end in ("", "-tuned")
    ),
}
COLUMNS = {"image", *KINDS, "gaussians", "psnr_at", "psnr_within", "psnr"}
BUDGET = "10"  # seconds of the figure that goes by the number of Gaussians


class NothingToDrawError(ValueError):
    """Tables have not what a figure is drawn from."""


class Panel(NamedTuple):
    """The lines of one panel, and the rows that they are of."""

    rows: list[dict]
    lines: dict[str, Points]


def read(path: Path) -> list[dict]:
    """Return the rows of a table, with its pictures and its machine.

    Raises:
        ValueError: there are none like those that run_kodak.py writes.
    """
    try:
        run = json.loads(path.read_text())
        # How many pictures there are is counted where it is said, since lines share pictures.
        more = {"pictures": run["pictures"].split(", pictures ")[0], "machine": run["machine"]}
        rows = [row | more for row in run["rows"]]
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


def draw_iterations(rows: list[dict], methods: list[str] | None = None) -> Figure:
    """Mean PSNR against iterations: a panel for each number of Gaussians of each dataset.

    Args:
        rows: of `read_all`.
        methods: that get lines, at most `lines.MOST`; None for those of `of_methods`.
    """
    found = panels(of_methods(rows, methods), True, lambda own: reached(own, "psnr_at"))
    return draw(found, "PSNR against iterations of a fit", "iterations")


def draw_seconds(rows: list[dict], methods: list[str] | None = None) -> Figure:
    """Mean PSNR against the seconds of a fit, with panels and methods of `draw_iterations`."""
    chosen = of_methods(of_one_machine(rows), methods)
    found = panels(chosen, True, lambda own: reached(own, "psnr_within"))
    return draw(found, "PSNR against seconds of a fit", "seconds")


def draw_ten_seconds(rows: list[dict], methods: list[str] | None = None) -> Figure:
    """Mean PSNR after ten seconds against the number of Gaussians: a panel for each dataset.

    Methods that have it at one number only are left out.
    """
    known = [row for row in of_one_machine(rows) if BUDGET in row["psnr_within"]]
    several = [
        row
        for group in table.grouped(known, ("dataset", "method", "sampler"))
        if len({row["k"] for row in group}) > 1
        for row in group
    ]
    found = panels(of_methods(several, methods), False, within_budget)
    return draw(found, f"PSNR after {BUDGET} s of a fit against the number of Gaussians", "k")


def draw_count(rows: list[dict], methods: list[str] | None = None) -> Figure:
    """Mean PSNR at the end against the mean number of Gaussians: a panel for each dataset."""
    found = panels(of_methods(rows, methods), False, at_end)
    return draw(found, "PSNR at the end of a fit against the number of Gaussians", "k")


def draw_best(rows: list[dict], _: list[str] | None = None) -> Figure:
    """Mean PSNR within seconds of the best variant of each of FAMILIES, whatever methods say."""
    family = {method: name for name, methods in FAMILIES.items() for method in methods}
    chosen = [row for row in of_one_machine(rows) if row["method"] in family]
    found = []
    for rows_of, curves in panels(chosen, True, lambda own: reached(own, "psnr_within")):
        best: dict[str, dict[float, float]] = {name: {} for name in FAMILIES}
        for method, points in curves.items():
            highest = best[family[method.split(",")[0]]]
            highest |= {at: max(psnr, highest.get(at, psnr)) for at, psnr in points}
        kept = {name: sorted(highest.items()) for name, highest in best.items() if highest}
        found.append(Panel(rows_of, kept))
    return draw(found, "PSNR against seconds of a fit", "seconds")


def of_methods(rows: list[dict], methods: list[str] | None) -> list[dict]:
    """Return the rows that get lines, in the order of their methods.

    Args:
        rows: of `read_all`.
        methods: whose rows; None for those of `PREFERRED` and then others as rows have them, up to
            `lines.MOST` lines.

    Raises:
        ValueError: a method has no row, or there are more lines than can be told apart.
    """
    of_lines = table.grouped(rows, ("method", "sampler"))
    known = [group[0]["method"] for group in of_lines]
    order = list(PREFERRED if methods is None else (Path(name).stem for name in methods))
    if methods is None:
        order += [name for name in known if name not in PREFERRED]
    elif missing := [name for name in order if name not in known]:
        raise NothingToDrawError(
            f"--methods {' '.join(missing)}: nothing to draw in --table; expected some of "
            + " ".join(dict.fromkeys(known))
        )
    wanted = sorted(
        (group for group in of_lines if group[0]["method"] in order),
        key=lambda group: order.index(group[0]["method"]),
    )
    if methods is not None and len(wanted) > lines.MOST:
        raise ValueError(
            f"--methods {' '.join(order)}: {len(wanted)} lines; expected at most {lines.MOST}, "
            "which can be told apart"
        )
    return [row for group in wanted[: lines.MOST] for row in group]


def of_one_machine(rows: list[dict]) -> list[dict]:
    """Return the rows; ValueError if they are of several machines, whose seconds differ."""
    if len(machines := dict.fromkeys(row["machine"] for row in rows)) > 1:
        raise NothingToDrawError(
            f"--table: seconds of {len(machines)} machines: {'; '.join(machines)}; expected one"
        )
    return rows


def panels(rows: list[dict], by_k: bool, points_of: Callable[[list[dict]], Points]) -> list[Panel]:
    """Return a panel for each group of rows, with the lines of means over the same pictures.

    Args:
        rows: whose methods get lines, in this order.
        by_k: whether each number of Gaussians has a panel of its own.
        points_of: makes a line of the rows of one method.

    Raises:
        ValueError: two lines of a panel have no picture in common.
    """
    by = ("dataset", "pictures", "k") if by_k else ("dataset", "pictures")
    groups = sorted(table.grouped(rows, by), key=lambda group: [group[0][name] for name in by])
    found = []
    for group in groups:
        kinds = table.grouped(group, ("k", "method", "sampler"))
        common = set.intersection(*({row["image"] for row in kind} for kind in kinds))
        if not common:
            raise ValueError(
                f"--table: no picture of {group[0]['dataset']} has all of "
                f"{', '.join(dict.fromkeys(map(table.name_of, group)))}; expected one at least, "
                "or fewer --methods"
            )
        kept = [row for row in group if row["image"] in common]
        curves = {
            table.name_of(own[0]): points_of(own)
            for own in table.grouped(kept, ("method", "sampler"))
        }
        found.append(Panel(kept, {name: points for name, points in curves.items() if points}))
    return found


def reached(group: list[dict], name: str) -> Points:
    """Return the mean PSNRs after each budget that every picture's fit has reached."""
    budgets = [at for at in group[0][name] if all(at in row[name] for row in group)]
    return [(float(at), statistics.fmean(row[name][at] for row in group)) for at in budgets]


def within_budget(group: list[dict]) -> Points:
    """Return the mean PSNRs after BUDGET seconds, by k."""
    of_k = {own[0]["k"]: own for own in table.grouped(group, ("k",))}
    means = {k: statistics.fmean(row["psnr_within"][BUDGET] for row in of_k[k]) for k in of_k}
    return [(float(k), means[k]) for k in sorted(means)]


def at_end(group: list[dict]) -> Points:
    points = []
    for of_k in table.grouped(group, ("k",)):
        x, y = ([row[name] for row in of_k] for name in ("gaussians", "psnr"))
        points.append((statistics.fmean(x), statistics.fmean(y)))
    return sorted(points)


def draw(found: list[Panel], title: str, unit: str) -> Figure:
    """Draw panels one below the other, with a name at the end of each line.

    Raises:
        ValueError: there is nothing to draw.
    """
    found = [panel for panel in found if panel.lines]
    if not found:
        raise NothingToDrawError(
            f"--table: no method has a line of {title!r}; expected one at least"
        )
    styles = lines.styles(list(dict.fromkeys(name for panel in found for name in panel.lines)))
    figure, axes = lines.panels(len(found))
    for axis, panel in zip(axes, found, strict=True):
        for name, points in panel.lines.items():
            axis.plot(*zip(*points, strict=True), label=name, **styles[name])
        lines.head(axis, title, about(panel.rows, unit))
        # A method can have its own number of Gaussians, which is not where ticks are.
        ticks = {x for points in panel.lines.values() for x, _ in points}
        ticks = {float(row["k"]) for row in panel.rows} if unit == "k" else ticks
        if unit == "iterations":
            axis.set_xscale("symlog", linthresh=25)
        else:
            axis.set_xscale("log")
        axis.set_xlabel("Gaussians" if unit == "k" else unit)
        axis.set_ylabel("mean PSNR, dB")
        lines.name_ticks(axis, sorted(ticks))
    lines.name_ends(figure)
    return figure


def about(rows: list[dict], unit: str) -> str:
    """Say on which pictures, with how many Gaussians and on which machines lines were measured."""
    first, count = rows[0], len({row["image"] for row in rows})
    pictures = first["pictures"][:1].lower() + first["pictures"][1:]
    machines = " and ".join(dict.fromkeys(lines.machine(row["machine"]) for row in rows))
    return (
        f"{first['dataset']}, {count} picture{'s' * (count > 1)}: {pictures}"
        + f"; k = {first['k']:,}" * (unit != "k")
        + f"; {machines}"
    )
