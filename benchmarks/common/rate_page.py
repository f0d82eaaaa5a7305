"""The page of run_rate.py."""

from __future__ import annotations

import math
import statistics
from typing import Any

from common import rates, table
from common.rates import Curve

RATES = (0.1, 0.15, 0.25, 0.35, 0.5, 0.75, 1.0, 1.5)  # bits a pixel
REFERENCE = "WebP"  # what BD-rates are against
# From the papers or pages of their authors, on Kodak: bits a pixel of complete files, PSNR in dB.
PUBLISHED = {
    "GaussianImage++": ((0.15, 25.3), (1.08, 31.1)),
    "gsic (six frames)": ((0.34, 25.7),),
    "Cool-chic 5": ((0.084, 27.44), (0.219, 30.86), (0.482, 34.52), (0.759, 37.25)),
}


def as_markdown(run: dict[str, Any], rows: list[dict]) -> str:
    """Return the page: how it was measured, and quality, rates and seconds of every codec."""
    files = [row for row in rows if is_ours(row["codec"])]
    made = ", ".join(dict.fromkeys(row["made_by"] for row in rows))
    return (
        f"{run['pictures']}: quality of 8-bit pixels against bytes of complete files. The curve\n"
        "of each picture is interpolated in the logarithm of the rate; tables have the mean over\n"
        "pictures, or a dash where the curve of one does not reach.\n\n"
        f"{table.about_run(run)}\n- {made}\n\n"
        f"PSNR in dB at so many bits a pixel:\n\n{by_rate(rows, 'psnr')}\n\n"
        "MS-SSIM, as -10 log10(1 - MS-SSIM):\n\n"
        f"{by_rate(rows, 'ms_ssim')}\n\n"
        f"Mean difference in bytes at equal quality (BD-rate) from {REFERENCE}'s, each picture by\n"
        "itself, and median seconds over all rates; of files, to encode is to start, to fit, to\n"
        f"refine and to write, and to decode is to read and to render:\n\n{by_codec(rows)}\n\n"
        f"Beside what others publish, which was not measured here:\n\n{published(rows)}\n\n"
        f"Files by number of Gaussians and preset:\n\n{by_number(files)}\n"
    )


def is_ours(codec: str) -> bool:
    return codec.startswith(".t2d")


def curves_of(rows: list[dict], name: str) -> dict[str, dict[str, Curve]]:
    """Return the curves of each codec, by picture; of MS-SSIM in dB."""
    found: dict[str, dict[str, Curve]] = {}
    for row in rows:
        if row[name] is not None:
            quality = row[name] if name == "psnr" else -10 * math.log10(max(1 - row[name], 1e-9))
            curves = found.setdefault(row["codec"], {})
            curves.setdefault(row["image"], []).append((row["bpp"], quality))
    return found


def mean_at(curves: dict[str, Curve], rate: float) -> float | None:
    """Return the mean quality of all pictures at a rate; None where a curve does not reach."""
    found = [rates.at(curve, rate) for curve in curves.values()]
    known = [quality for quality in found if quality is not None]
    return statistics.fmean(known) if known and len(known) == len(found) else None


def text(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None else format(value, form)


def by_rate(rows: list[dict], name: str) -> str:
    """A line for each codec: its quality at each of RATES."""
    lines = [["", *(f"{rate:g}" for rate in RATES)]]
    for codec, curves in curves_of(rows, name).items():
        lines.append([codec, *(text(mean_at(curves, rate)) for rate in RATES)])
    return table.pipes(lines)


def by_codec(rows: list[dict]) -> str:
    """A line for each codec: its BD-rates and its seconds."""
    psnr, ms_ssim = curves_of(rows, "psnr"), curves_of(rows, "ms_ssim")
    lines = [["", "PSNR", "MS-SSIM", "pictures", "encode s", "decode s"]]
    for group in table.grouped(rows, ("codec",)):
        codec = group[0]["codec"]
        own = [bd_rates(curves, codec) for curves in (psnr, ms_ssim)]
        means = [text(statistics.fmean(found) if found else None, "+.1f") for found in own]
        means = [mean if mean == "-" else f"{mean} %" for mean in means]
        times = [
            statistics.median(row[f"{name}_s"] for row in group) for name in ("encode", "decode")
        ]
        lines.append([codec, *means, str(len(own[0])), *(f"{seconds:.3f}" for seconds in times)])
    return table.pipes(lines)


def bd_rates(curves: dict[str, dict[str, Curve]], codec: str) -> list[float]:
    """Return a codec's BD-rates from the reference's, of pictures where both can be compared."""
    references = curves.get(REFERENCE, {})
    found = [
        rates.bd_rate(curve, references[image])
        for image, curve in curves.get(codec, {}).items()
        if image in references
    ]
    return [rate for rate in found if rate is not None]


def published(rows: list[dict]) -> str:
    """A line for each figure of others, with the best file and the reference at that rate."""
    curves = curves_of(rows, "psnr")
    lines = [["published", "bits a pixel", "PSNR", "the best .t2d here", REFERENCE]]
    for name, points in PUBLISHED.items():
        for rate, psnr in points:
            at = {codec: mean_at(own, rate) for codec, own in curves.items()}
            ours = {codec: own for codec, own in at.items() if is_ours(codec) and own is not None}
            best = max(ours, key=lambda codec: ours[codec], default=None)
            shown = "-" if best is None else f"{ours[best]:.2f} ({best.removeprefix('.t2d ')})"
            lines.append([name, f"{rate:g}", f"{psnr:.2f}", shown, text(at.get(REFERENCE))])
    return table.pipes(lines)


def by_number(files: list[dict]) -> str:
    """A line for each number of Gaussians, preset and budget: what saving costs."""
    head = ["file", "k", "refine", "pictures", "kB", "bits a pixel", "bits a Gaussian"]
    lines = [[*head, "unsaved", "saved", "loss"]]
    for group in table.grouped(files, ("codec", "setting", "refine")):
        codec, k = group[0]["codec"], group[0]["setting"]
        refined = statistics.fmean(row["refined"] for row in group)  # steps
        size = statistics.fmean(row["bytes"] for row in group)
        unsaved, saved = (statistics.fmean(row[n] for row in group) for n in ("unsaved", "psnr"))
        lines.append(
            [
                codec,
                f"{k:,}",
                f"{refined:.0f}",
                str(len(group)),
                f"{size / 1e3:.1f}",
                f"{statistics.fmean(row['bpp'] for row in group):.2f}",
                f"{8 * size / k:.1f}",
                *(f"{value:.2f}" for value in (unsaved, saved, unsaved - saved)),
            ]
        )
    return table.pipes(lines)
