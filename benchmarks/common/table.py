"""Tables of measurements, in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import torch

from common.costs import times_of
from common.fits import KINDS, STEPS
from nets import weights
from taichi2dgs import runtime


def as_markdown(run: dict[str, Any], rows: list[dict]) -> str:
    """Return a page: how it was measured, a line for each kind of fit, every picture."""
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    pages = [every_picture([r for r in rows if r["dataset"] == name], name) for name in datasets]
    return (
        f"{run['pictures']}: mean PSNR in dB of the clamped render after so many iterations or\n"
        "seconds, at the end also rounded to 8 bits; mean MS-SSIM, SSIM, FLIP (0 for equal);\n"
        "bits a pixel of a .t2d file and of float32 numbers; medians of the time that a\n"
        "start and an iteration take, with the latter's spread, and of renders per second; the\n"
        "peak memory of the process in fits. Compiling and starting are not in the seconds of a\n"
        "fit. Methods whose rates fall towards the end fit anew for each of --seconds.\n\n"
        f"{about_run(run)}\n- {about_networks()}\n\n"
        f"{summary(grouped(rows, KINDS))}\n\n" + "\n\n".join(pages) + "\n"
    )


def about_run(run: dict[str, Any]) -> str:
    """Say on what and how something was measured, see `measure.describe`."""
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return (
        f"- machine: {run['machine']}; backend {run['backend']}\n- {versions}\n"
        f"- commit {run['commit']}; package {run['package']}\n- `{run['command']}`"
    )


def grouped(rows: list[dict], by: Sequence[str]) -> list[list[dict]]:
    """Return the rows that agree in what `by` names together, in the order of the first ones."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    return list(groups.values())


def every_picture(rows: list[dict], dataset: str) -> str:
    """A line for each picture of a dataset: PSNR at the end of each kind of fit."""
    kinds = list(dict.fromkeys(f"{row['k']:,} {name_of(row)}" for row in rows))
    lines: dict[str, list[str]] = {}
    for row in rows:
        lines.setdefault(row["image"], [row["image"]]).append(f"{row['psnr']:.2f}")
    return f"{dataset}, every picture at the end:\n\n{pipes([['image', *kinds], *lines.values()])}"


def name_of(row: dict) -> str:
    return row["method"] + f", {row['sampler']}" * (row["sampler"] != "default")


def summary(groups: list[list[dict]]) -> str:
    """One line for each kind of fit: the means over its pictures."""
    steps = [str(s) for s in STEPS if any(str(s) in group[0]["psnr_at"] for group in groups)]
    spans = sorted({at for group in groups for at in group[0]["psnr_within"]}, key=float)
    more = [column for column in MORE if any(column[1] in group[0] for group in groups)]
    lines = [
        [
            "pictures",
            "k",
            "method",
            *(f"{step} its" for step in steps),
            *(f"{at} s" for at in spans),
            "end",
            "8 bits",
            "MS-SSIM",
            *(name for name, _, _ in more),
            "start s",
            "ms/it",
            "render/s",
            "peak MiB",
        ]
    ]
    for group in groups:
        speed = sorted(row["ms_per_iteration"] for row in group)
        spread = f"{brief(statistics.median(speed))} ({brief(speed[0])} to {brief(speed[-1])})"
        moved = any(row["steps"] for row in group)
        lines.append(
            [
                f"{len(group)} of {group[0]['dataset']}",
                count(group),
                name_of(group[0]),
                *(mean([row["psnr_at"].get(step) for row in group]) for step in steps),
                *(mean([row["psnr_within"].get(at) for row in group]) for at in spans),
                mean([row["psnr"] for row in group]),
                mean([row["psnr_8bit"] for row in group]),
                mean([row["ms_ssim"] for row in group], 4),
                *(mean([row.get(key) for row in group], digits) for _, key, digits in more),
                f"{statistics.median(row['start_seconds'] for row in group):.2f}",
                spread if moved else "-",
                f"{statistics.median(row['render_fps'] for row in group):.1f}",
                f"{max(row['peak_mib'] for row in group):,}",
            ]
        )
    return pipes(lines)


def brief(number: float) -> str:
    """Two digits at least, and no decimals that mean nothing: 0.31, 5.2, 17."""
    return f"{number:.0f}" if number >= 10 else f"{number:.2g}"


def count(group: list[dict]) -> str:
    """Return k, and the mean number of Gaussians at the end where it is another."""
    found = statistics.fmean(row["gaussians"] for row in group)
    chosen = f" ({found:,.0f})" if found != group[0]["k"] else ""
    return f"{group[0]['k']:,}{chosen}"


def mean(values: list[float | None], digits: int = 2) -> str:
    """Return a mean as text, or a dash if a value is missing."""
    known = [value for value in values if value is not None]
    return f"{statistics.fmean(known):.{digits}f}" if len(known) == len(values) else "-"


# Columns that older tables lack: name, key, digits.
MORE = (
    ("SSIM", "ssim", 4),
    ("FLIP", "flip", 4),
    ("bits a pixel", "bpp_high", 2),
    ("as float32", "bpp_float32", 2),
    ("decode s", "decode_seconds", 3),
)


def about_networks() -> str:
    """Say how long both networks take on 512x512 pixels, and how large they are."""
    size = sum(weights.file(name).stat().st_size for name in weights.NETS)
    return (
        f"both networks at 512x512: {1000 * statistics.median(networks_times()):.0f} ms, "
        f"{size / 1e6:.1f} MB of weights"
    )


def networks_times() -> list[float]:
    """Return the seconds that both networks take on 512x512 pixels, once for each repeat."""
    device = runtime.device()
    position, attributes = (weights.load(name).to(device) for name in ("position", "attributes"))
    image, k = torch.rand(1, 3, 512, 512, device=device), torch.tensor([50_000], device=device)

    def predict() -> float:
        position(image, k)
        return float(attributes(image, image, image[:, :2], k).color.sum())  # waits for the device

    with torch.inference_mode():
        predict()
        return times_of(predict)


def pipes(lines: list[list[str]]) -> str:
    """Lay out a Markdown table, its head first."""
    ruled = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in ruled)
