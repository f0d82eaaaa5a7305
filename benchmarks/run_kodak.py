"""Fit centre crops from every start at every k, and write the table of PSNRs and times.

    python benchmarks/run_kodak.py --data FOLDER --init prior gradient --k 10000 50000 100000

FOLDER holds pictures: Kodak's 24, or others. A JSON file with every fit and a Markdown table appear
in --out; both carry machine, backend, versions, commit and command. Compiling is not on the clock;
a start and a short fit before the first of each kind warm up. A run that is killed goes on where it
was.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

import taichi2dgs
from pipelines import INITS, configuration, initialize
from pipelines.sampling import METHODS
from taichi2dgs import doctor, files, metrics, runtime

ROOT = Path(__file__).resolve().parents[1]
REPORTED = (0, 25, 50, 100, 200, 500, 1000)  # iterations, where the fit is that long
REPORT_EVERY = 25
KINDS = ("k", "init", "sampler")  # what tells one kind of fit from another


def main() -> int:
    options = parse()
    try:
        pictures = find_pictures(options.data, options.images)
        taichi2dgs.init(options.backend)
        run = describe(options)
        rows = measure_all(pictures, run, options)
        table = as_markdown(run, rows)
        options.out.with_suffix(".md").write_text(table)
    except (ValueError, RuntimeError) as error:
        print(f"run_kodak: error: {error}", file=sys.stderr)
        return 2
    print(table)
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], epilog="See the top of this file."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--k", type=int, nargs="+", default=[50_000], help="Gaussians (50000)")
    parser.add_argument("--init", nargs="+", default=["prior"], choices=INITS, help="(prior)")
    parser.add_argument("--sampler", nargs="+", default=["default"],
                        choices=["default", *METHODS], help="of the start")  # fmt: skip
    parser.add_argument("--steps", type=int, default=200, help="iterations; 0: starts only (200)")
    parser.add_argument("--images", type=int, default=24, help="how many, from the first (24)")
    parser.add_argument("--crop", type=int, default=512, help="side of the centre crop (512)")
    parser.add_argument("--config", help="fit options: a YAML file or a shipped name")
    parser.add_argument("--backend", help="cuda, vulkan, metal, opengl, cpu or auto")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/kodak_fit")
    return parser.parse_args()


def find_pictures(folder: Path, count: int) -> list[Path]:
    from pipelines.training.images import SUFFIXES

    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)[:count]
    if not found:
        raise ValueError(f"--data {folder}: no pictures there")
    return found


def centre_crop(image, side: int):
    """Return the centre of an image, side x side pixels or as much as there is."""
    height, width = image.shape[:2]
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    return image[top : top + side, left : left + side].contiguous()


def measure_all(pictures: list[Path], run: dict, options: argparse.Namespace) -> list[dict]:
    """Measure every picture in every kind of fit, but those that an earlier run has measured."""
    out = options.out.with_suffix(".json")
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = earlier_rows(out, run)
    done = {(row["image"], *(row[name] for name in KINDS)) for row in rows}
    kinds: list[dict[str, Any]] = [
        dict(zip(KINDS, kind, strict=True))
        for kind in itertools.product(options.k, options.init, options.sampler)
    ]
    warm = []
    bar = tqdm([(kind, path) for kind in kinds for path in pictures], "kodak", unit="fit")
    for kind, path in bar:
        if (path.stem, *kind.values()) in done:
            continue
        image = centre_crop(files.read_image(path), options.crop)
        if kind not in warm:
            measure(image, kind, options, min(options.steps, REPORT_EVERY))
            warm.append(kind)
        rows.append({"image": path.stem, **kind, **measure(image, kind, options, options.steps)})
        bar.set_postfix_str(f"{kind['init']} {kind['k']} {path.stem} {rows[-1]['psnr']:.2f} dB")
        with files.replacing(out) as temporary:
            Path(temporary).write_text(json.dumps({**run, "rows": rows}, indent=1) + "\n")
    return rows


def earlier_rows(out: Path, run: dict[str, Any]) -> list[dict]:
    """Return what the same command has measured of the same commit before it was killed."""
    try:
        earlier = json.loads(out.read_text())
        rows = earlier.pop("rows")
    except (OSError, ValueError, KeyError):  # none, or not of ours: it will be replaced
        return []
    clean = {**run, "commit": run["commit"].removesuffix("-dirty")}  # which results make it
    return rows if {**earlier, "commit": earlier["commit"].removesuffix("-dirty")} == clean else []


def measure(image, kind: dict[str, Any], options: argparse.Namespace, steps: int) -> dict[str, Any]:
    """Make a start and fit it; reports read what the fit has measured anyway."""
    sampler = None if kind["sampler"] == "default" else kind["sampler"]
    began = time.perf_counter()
    result = initialize(image, kind["k"], kind["init"], sampler=sampler)
    start_seconds = time.perf_counter() - began
    row: dict[str, Any] = {"start_seconds": round(start_seconds, 3)}
    if not steps:
        row["psnr_at"] = {"0": round(metrics.psnr(result.render(), image), 3)}
    else:
        settings = configuration.fit_options(options.config, report_every=REPORT_EVERY)
        fitted = taichi2dgs.fit(image, result, steps=steps, options=settings)
        result, history = fitted.gaussians, fitted.history
        row["psnr_at"] = {str(r.step): round(r.psnr, 3) for r in history if r.step in REPORTED}
        row["ms_per_iteration"] = round(1000 * history[-1].seconds / steps, 2)
    row["psnr"] = round(metrics.psnr(result.render(), image), 3)
    row["psnr_8bit"] = round(metrics.psnr(result.render(), image, rounded=True), 3)
    return row


def describe(options: argparse.Namespace) -> dict[str, Any]:
    arguments = [a if a != str(options.data) else "FOLDER" for a in sys.argv[1:]]
    return {
        "command": " ".join(["python benchmarks/run_kodak.py", *arguments]),
        "pictures": f"{options.data.resolve().name}, {options.crop}x{options.crop} centre crops",
        "commit": doctor.commit(),
        "backend": runtime.current(),
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "versions": {k: v for k, v in doctor.versions().items() if k != "platform"},
    }


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def as_markdown(run: dict, rows: list[dict]) -> str:
    groups: dict[str, list[dict]] = {}
    for row in rows:
        groups.setdefault(f"{row['k']:,} {name_of(row)}", []).append(row)
    by_image: dict[str, list[str]] = {}
    for row in rows:
        by_image.setdefault(row["image"], [row["image"]]).append(f"{row['psnr']:.2f}")
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return (
        f"{run['pictures']}, {len(by_image)} pictures: mean PSNR in dB of the clamped\n"
        "render after so many iterations, at the end also rounded to 8 bits; medians of the time\n"
        "that a start and an iteration take, and the latter's spread. Compiling not counted.\n\n"
        f"- machine: {run['machine']}; backend {run['backend']}\n- {versions}\n"
        f"- commit {run['commit']}\n- `{run['command']}`\n\n{summary(list(groups.values()))}\n\n"
        f"At the end, every picture:\n\n{pipes([['image', *groups], *by_image.values()])}\n"
    )


def name_of(row: dict) -> str:
    return row["init"] + f", {row['sampler']}" * (row["sampler"] != "default")


def summary(groups: list[list[dict]]) -> str:
    """One line for each kind of fit: the means over its pictures."""
    steps = [str(step) for step in REPORTED if str(step) in groups[0][0]["psnr_at"]]
    lines = [["k", "start", *(f"{step} its" for step in steps), "end", "end, 8 bits", "start s",
              "ms/it"]]  # fmt: skip
    for group in groups:
        first = group[0]
        means = [statistics.fmean(row["psnr_at"][step] for row in group) for step in steps]
        means += [statistics.fmean(row[key] for row in group) for key in ("psnr", "psnr_8bit")]
        start = statistics.median(row["start_seconds"] for row in group)
        speed = sorted(row.get("ms_per_iteration", 0.0) for row in group)
        spread = f"{statistics.median(speed):.0f} ({speed[0]:.0f} to {speed[-1]:.0f})"
        figures = [*(f"{mean:.2f}" for mean in means), f"{start:.2f}", spread]
        lines.append([f"{first['k']:,}", name_of(first), *figures])
    return pipes(lines)


def pipes(lines: list[list[str]]) -> str:
    """Lay out a Markdown table, its head first."""
    ruled = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in ruled)


if __name__ == "__main__":
    sys.exit(main())
