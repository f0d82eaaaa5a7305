"""Fit Kodak's centre crops and write the table: PSNR per image, milliseconds per iteration.

    python benchmarks/run_kodak.py --data FOLDER --k 50000 --steps 200

FOLDER holds kodim01.png to kodim24.png. A JSON file with every image and a Markdown table appear
in --out; both carry machine, backend, versions, commit and command. Compiling is not on the clock;
the first image of a run is fitted twice, and the first time is the warm-up.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

import taichi2dgs
from pipelines import INITS, configuration, initialize
from taichi2dgs import doctor, files, metrics, runtime

ROOT = Path(__file__).resolve().parents[1]
REPORTED = (0, 25, 50, 100, 200, 500, 1000)  # iterations, where the fit is that long


def main() -> int:
    options = parse()
    try:
        pictures = find_pictures(options.data, options.images)
        taichi2dgs.init(options.backend)
        run = describe(options)
        rows = []
        bar = tqdm(pictures, desc="kodak", unit="image")
        for path in bar:
            rows.append(measure(path, options, warm_up=not rows))
            bar.set_postfix_str(f"{rows[-1]['image']} {rows[-1]['psnr']:.2f} dB")
        table = as_markdown(run, rows, options)
        write(options.out, run, rows, table)
    except (ValueError, RuntimeError) as error:
        print(f"run_kodak: error: {error}", file=sys.stderr)
        return 2
    print(table)
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], epilog="See the top of this file."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of kodim01.png to 24")
    parser.add_argument("--k", type=int, default=50_000, help="Gaussians per 512x512 (50000)")
    parser.add_argument("--steps", type=int, default=200, help="iterations (200)")
    parser.add_argument("--images", type=int, default=24, help="how many, from the first (24)")
    parser.add_argument("--crop", type=int, default=512, help="side of the centre crop (512)")
    parser.add_argument("--init", default="gradient", choices=INITS)
    parser.add_argument("--config", help="fit options: a YAML file or a shipped name")
    parser.add_argument("--backend", help="cuda, vulkan, metal, opengl, cpu or auto")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/kodak_fit")
    return parser.parse_args()


def find_pictures(folder: Path, count: int) -> list[Path]:
    found = sorted(folder.glob("kodim*.png"))[:count]
    if not found:
        raise ValueError(f"--data {folder}: no kodim*.png there")
    return found


def centre_crop(image, side: int):
    """Return the centre of an image, side x side pixels or as much as there is."""
    height, width = image.shape[:2]
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    return image[top : top + side, left : left + side].contiguous()


def measure(path: Path, options: argparse.Namespace, warm_up: bool) -> dict[str, Any]:
    """Fit one picture without reports for the time, and once more with them for the PSNRs."""
    image = centre_crop(files.read_image(path), options.crop)
    start = initialize(image, options.k, options.init)
    silent = configuration.fit_options(options.config, report_every=max(1, options.steps))
    detailed = configuration.fit_options(options.config, report_every=25)
    if warm_up:
        taichi2dgs.fit(image, start, steps=options.steps, options=silent)
    timed = taichi2dgs.fit(image, start, steps=options.steps, options=silent)
    history = taichi2dgs.fit(image, start, steps=options.steps, options=detailed).history
    seconds = timed.history[-1].seconds
    return {
        "image": path.stem,
        "psnr_at": {r.step: round(r.psnr, 3) for r in history if r.step in REPORTED},
        "psnr": round(timed.history[-1].psnr, 3),
        "psnr_8bit": round(metrics.psnr(timed.gaussians.render(), image, rounded=True), 3),
        "ms_per_iteration": round(1000 * seconds / max(1, options.steps), 2),
    }


def describe(options: argparse.Namespace) -> dict[str, Any]:
    arguments = [a if a != str(options.data) else "FOLDER" for a in sys.argv[1:]]
    return {
        "command": " ".join(["python benchmarks/run_kodak.py", *arguments]),
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


def as_markdown(run: dict, rows: list[dict], options: argparse.Namespace) -> str:
    steps = [step for step in REPORTED if all(step in row["psnr_at"] for row in rows)]
    head = ["image", *(f"{step} its" for step in steps), "end", "end, 8 bits", "ms/it"]
    lines = [[row["image"], *(f"{row['psnr_at'][s]:.2f}" for s in steps), f"{row['psnr']:.2f}",
              f"{row['psnr_8bit']:.2f}", f"{row['ms_per_iteration']:.1f}"]
             for row in rows]  # fmt: skip
    mean = [f"{statistics.fmean(row['psnr_at'][s] for row in rows):.2f}" for s in steps]
    ends = [f"{statistics.fmean(row[key] for row in rows):.2f}" for key in ("psnr", "psnr_8bit")]
    speed = sorted(row["ms_per_iteration"] for row in rows)
    lines.append(["mean, median ms", *mean, *ends, f"{statistics.median(speed):.1f}"])
    table = "\n".join(
        "| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines]
    )
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return (
        f"Kodak, {options.crop}x{options.crop} centre crops, {options.k:,} Gaussians, "
        f"{options.init} start, {options.steps} iterations: PSNR in dB of the clamped render, "
        f"at the end also rounded to 8 bits.\nTime per iteration: spread {speed[0]:.1f} to "
        f"{speed[-1]:.1f} ms over the images; one warm-up fit; compiling is not counted.\n\n"
        f"- machine: {run['machine']}; backend {run['backend']}\n- {versions}\n"
        f"- commit {run['commit']}\n- `{run['command']}`\n\n{table}\n"
    )


def write(out: Path, run: dict, rows: list[dict], table: str) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps({**run, "rows": rows}, indent=1) + "\n")
    out.with_suffix(".md").write_text(table)


if __name__ == "__main__":
    sys.exit(main())
