"""What others publish of Kodak's whole frames, beside what was measured here."""

from __future__ import annotations

from typing import NamedTuple

from common import table

METHOD = "ours"
DATASET = "kodak"


class Figure(NamedTuple):
    """A figure of a paper: mean PSNR in dB of the 24 frames, after what, and on what."""

    name: str
    k: int
    psnr: float
    after: str
    hardware: str


# arXiv 2605.20820, 2512.19108, 2403.08551 and 2512.24018; we have not read which GPU each means.
FIGURES = (
    Figure("AIR", 28_000, 30.93, "no fit, 0.16 s", "a GPU"),
    Figure("AIR", 37_000, 31.47, "no fit", "a GPU"),
    Figure("AIR", 52_000, 32.17, "no fit", "a GPU"),
    Figure("GaussianImage++", 5_000, 31.83, "50,000 iterations", "a GPU"),
    Figure("GaussianImage++", 10_000, 35.41, "50,000 iterations, 340 s", "a GPU"),
    Figure("GaussianImage", 10_000, 32.5, "50,000 iterations", "a GPU"),
    Figure("GaussianImage", 70_000, 44.08, "50,000 iterations, 107 s", "a GPU"),
    Figure("Structure-Guided", 70_000, 45.40, "its own budget", "a GPU"),
)


def beside(rows: list[dict], has_starts: bool) -> str:
    """Return a line for each figure, with ours of as many Gaussians; "" where none has any.

    Args:
        rows: of whole pictures, of any datasets and methods.
        has_starts: whether PSNR after no iteration is of starts that are drawn for no fit.
    """
    ours = [row for row in rows if (row["dataset"], table.name_of(row)) == (DATASET, METHOD)]
    groups = {group[0]["k"]: group for group in table.grouped(ours, ("k",))}
    spans = sorted({at for row in ours for at in row["psnr_within"]}, key=float)
    head = ["published", "k", "dB", "after", "on", "pictures here", "no fit"]
    lines = [[*head, *(f"{at} s" for at in spans)]]
    for figure in FIGURES:
        if group := groups.get(figure.k):
            within = [[row["psnr_within"].get(at) for row in group] for at in spans]
            what = [figure.name, f"{figure.k:,}", f"{figure.psnr:.2f}", figure.after]
            means = [table.mean(values) for values in within]
            starts = [row["psnr_at"]["0"] if has_starts else None for row in group]
            here = [str(len(group)), table.mean(starts)]
            lines.append([*what, figure.hardware, *here, *means])
    if len(lines) == 1:
        return ""
    return (
        "Mean PSNR that others publish of all 24 frames, which was not measured here, beside\n"
        f"`{METHOD}` on the machine of this page:\n\n{table.pipes(lines)}\n"
    )
