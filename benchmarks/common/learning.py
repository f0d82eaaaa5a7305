"""Learning curves of trainings, from the logs that they leave in their folders."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

CURVES = {
    "valid_psnr": "PSNR of the start, dB",
    "solved_psnr": "PSNR with colours solved, dB",
    "untuned_psnr": "PSNR where no fit follows, dB",
    "valid_loss": "loss of validation",
}


def draw_learning(logs: list[Path]) -> Figure:
    """Draw a panel for each curve that a log has, over epochs counted from the first.

    Args:
        logs: `log.csv` of runs of one stage, named by their folders.

    Raises:
        ValueError: a file is no log of a training.
    """
    runs = {path.resolve().parent.name: read(path) for path in logs}
    names = [name for name in CURVES if any(name in rows[0] for rows in runs.values())]
    figure, axes = plt.subplots(1, len(names), figsize=(4.5 * len(names), 3.5), squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        for run, rows in runs.items():
            values = {epoch: float(row[name]) for epoch, row in enumerate(rows) if row.get(name)}
            ax.plot(list(values), list(values.values()), label=run)
        ax.set(xlabel="epochs", title=CURVES[name])
        ax.grid(alpha=0.3)
    axes[0][0].legend()
    figure.tight_layout()
    return figure


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a log."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        good = bool(rows) and all(math.isfinite(float(row["valid_loss"])) for row in rows)
    except (OSError, ValueError, KeyError, TypeError):
        good, rows = False, []
    if not good:
        raise ValueError(f"--table {path}: expected the log.csv of a training")
    return rows
