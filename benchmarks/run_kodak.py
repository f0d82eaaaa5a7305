"""Fit centre crops by every method at every k, and write the table of PSNRs and times.

    python benchmarks/run_kodak.py --methods ours ours-gradient --k 10000 50000

--data FOLDER takes pictures from there; without it Kodak's 24 are downloaded, once. A method is one
of configs/baselines, or a file like them. A JSON file with every fit and a Markdown table appear in
--out; both carry machine, backend, versions, commit and command. Compiling is not on the clock; a
short fit before the first of each kind warms up. A run that is killed goes on where it was.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import resource
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import kodak
import torch
from tqdm import tqdm

import taichi2dgs
from nets import weights
from pipelines import baselines, configuration
from pipelines.baselines.starts import begin
from pipelines.sampling import METHODS
from pipelines.training.images import SUFFIXES
from taichi2dgs import doctor, files, metrics, runtime

ROOT = Path(__file__).resolve().parents[1]
STEPS = (0, 25, 50, 100, 200, 500, 1000)  # reported, where the fit is that long
SECONDS = (1, 2, 5, 10, 30)
KINDS = ("k", "method", "sampler")  # what tells one kind of fit from another
SMALLEST_MS_SSIM = 161  # pixels a side
REPEATS = 5  # of a render, whose median counts


def main() -> int:
    options = parse()
    try:
        options.data = options.data or kodak.fetch(options.images)
        pictures = find_pictures(options.data, options.images)
        taichi2dgs.init(options.backend)
        run = describe(options)
        rows = measure_all(pictures, run, options)
        table = as_markdown(run, rows)
        options.out.with_suffix(".md").write_text(table)
    except (ValueError, RuntimeError, ImportError) as error:
        print(f"run_kodak: error: {error}", file=sys.stderr)
        return 2
    print(table)
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], epilog="See the top of this file."
    )
    parser.add_argument("--data", type=Path, help="folder of pictures (Kodak, downloaded)")
    parser.add_argument("--k", type=int, nargs="+", default=[50_000], help="Gaussians (50000)")
    parser.add_argument("--methods", nargs="+", default=["ours"], metavar="METHOD",
                        help=f"(ours) {', '.join(baselines.names())}, or YAML files")  # fmt: skip
    parser.add_argument("--sampler", nargs="+", default=["default"],
                        choices=["default", *METHODS], help="in place of the method's")  # fmt: skip
    parser.add_argument("--steps", type=int, help="iterations; 0: starts only (200)")
    parser.add_argument("--seconds", type=float, help="budget of a fit, in place of --steps")
    parser.add_argument("--images", type=int, default=24, help="how many, from the first (24)")
    parser.add_argument("--crop", type=int, default=512, help="side of the centre crop (512)")
    parser.add_argument("--config", help="options of fused fits: a YAML file or a shipped name")
    parser.add_argument("--backend", help="cuda, vulkan, metal, opengl, cpu or auto")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/kodak_fit")
    options = parser.parse_args()
    if options.steps is None and options.seconds is None:
        options.steps = 200
    return options


def find_pictures(folder: Path, count: int) -> list[Path]:
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
    warm = set()
    kinds = itertools.product(options.k, options.methods, options.sampler, pictures)
    bar = tqdm(list(kinds), "kodak", unit="fit")
    for k, name, sampler, path in bar:
        if (path.stem, k, Path(name).stem, sampler) in done:
            continue
        method = method_of(name, sampler, options.config)
        image = centre_crop(files.read_image(path), options.crop)
        if (name, sampler) not in warm:
            baselines.run(image, k, method, steps=2)
            warm.add((name, sampler))
        kind = dict(zip(KINDS, (k, Path(name).stem, sampler), strict=True))
        rows.append({"image": path.stem, **kind, **measure(image, k, method, options)})
        bar.set_postfix_str(f"{k} {name} {path.stem} {rows[-1]['psnr']:.2f} dB")
        with files.replacing(out) as temporary:
            Path(temporary).write_text(json.dumps({**run, "rows": rows}, indent=1) + "\n")
    return rows


def method_of(name: str, sampler: str, config: str | None) -> baselines.Method:
    method = baselines.load(name)
    if sampler != "default":
        method = replace(method, sampler=sampler)
    return replace(method, fit=configuration.load(config)) if config and method.fused else method


def earlier_rows(out: Path, run: dict[str, Any]) -> list[dict]:
    """Return what the same command has measured of the same commit before it was killed."""
    try:
        earlier = json.loads(out.read_text())
        rows = earlier.pop("rows")
    except (OSError, ValueError, KeyError):  # none, or not of ours: it will be replaced
        return []
    clean = {**run, "commit": run["commit"].removesuffix("-dirty")}  # which results make it
    return rows if {**earlier, "commit": earlier["commit"].removesuffix("-dirty")} == clean else []


def measure(image, k: int, method: baselines.Method, options: argparse.Namespace) -> dict[str, Any]:
    """Fit one picture, and look at what came out."""
    began = time.perf_counter()
    begin(image, k, method.start, sampler=method.sampler)
    start_seconds = time.perf_counter() - began
    result = baselines.run(image, k, method, steps=options.steps, seconds=options.seconds)
    last = result.history[-1]
    final, times = result.gaussians.render(**method.settings), []
    for _ in range(REPEATS):
        began = time.perf_counter()
        result.gaussians.render(**method.settings)
        times.append(time.perf_counter() - began)
    within = {at: [r.psnr for r in result.history if r.seconds <= at][-1] for at in SECONDS
              if at <= last.seconds * 1.02}  # fmt: skip
    return {
        "psnr_at": {str(r.step): round(r.psnr, 3) for r in result.history if r.step in STEPS},
        "psnr_within": {str(at): round(psnr, 3) for at, psnr in within.items()},
        "psnr": round(last.psnr, 3),
        "psnr_8bit": round(metrics.psnr(final, image, rounded=True), 3),
        "ms_ssim": ms_ssim(final, image),
        "steps": last.step,
        "start_seconds": round(start_seconds, 3),
        "ms_per_iteration": round(1000 * last.seconds / max(1, last.step), 2),
        "render_fps": round(1 / statistics.median(times), 1),
    }


def ms_ssim(image, reference) -> float | None:
    """Multi-scale structural similarity of the clamped image; None if it is too small for that."""
    from pytorch_msssim import ms_ssim as function

    if min(image.shape[:2]) < SMALLEST_MS_SSIM:
        return None
    pair = (one.clamp(0, 1).permute(2, 0, 1)[None] for one in (image, reference))
    return round(float(function(*pair, data_range=1.0)), 5)


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
        "render after so many iterations or seconds of one fit, at the end also rounded to 8\n"
        "bits; mean MS-SSIM; medians of the time that a start and an iteration take, with the\n"
        "latter's spread, and of renders per second. Compiling is not counted.\n\n"
        f"- machine: {run['machine']}; backend {run['backend']}\n- {versions}\n"
        f"- commit {run['commit']}\n- `{run['command']}`\n- {about_networks()}\n\n"
        f"{summary(list(groups.values()))}\n\n"
        f"At the end, every picture:\n\n{pipes([['image', *groups], *by_image.values()])}\n"
    )


def name_of(row: dict) -> str:
    return row["method"] + f", {row['sampler']}" * (row["sampler"] != "default")


def summary(groups: list[list[dict]]) -> str:
    """One line for each kind of fit: the means over its pictures."""
    steps = [str(s) for s in STEPS if any(str(s) in group[0]["psnr_at"] for group in groups)]
    spans = [str(s) for s in SECONDS if any(str(s) in group[0]["psnr_within"] for group in groups)]
    lines = [["k", "method", *(f"{step} its" for step in steps), *(f"{at} s" for at in spans),
              "end", "8 bits", "MS-SSIM", "start s", "ms/it", "render/s"]]  # fmt: skip
    for group in groups:
        speed = sorted(row["ms_per_iteration"] for row in group)
        spread = f"{statistics.median(speed):.0f} ({speed[0]:.0f} to {speed[-1]:.0f})"
        lines.append([
            f"{group[0]['k']:,}", name_of(group[0]),
            *(mean([row["psnr_at"].get(step) for row in group]) for step in steps),
            *(mean([row["psnr_within"].get(at) for row in group]) for at in spans),
            mean([row["psnr"] for row in group]), mean([row["psnr_8bit"] for row in group]),
            mean([row["ms_ssim"] for row in group], 4),
            f"{statistics.median(row['start_seconds'] for row in group):.2f}", spread,
            f"{statistics.median(row['render_fps'] for row in group):.1f}",
        ])  # fmt: skip
    return pipes(lines)


def mean(values: list[float | None], digits: int = 2) -> str:
    """Return a mean as text, or a dash if a value is missing."""
    known = [value for value in values if value is not None]
    return f"{statistics.fmean(known):.{digits}f}" if len(known) == len(values) else "-"


def about_networks() -> str:
    """Say how long both networks take on 512x512 pixels, how large they are, and the memory."""
    device = runtime.device()
    position, attributes = (weights.load(name).to(device) for name in ("position", "attributes"))
    image, k = torch.rand(1, 3, 512, 512, device=device), torch.tensor([50_000], device=device)
    seconds = []
    with torch.inference_mode():
        for _ in range(REPEATS + 1):
            began = time.perf_counter()
            position(image, k)
            float(attributes(image, image, image[:, :2], k).color.sum())  # waits for the device
            seconds.append(time.perf_counter() - began)
    size = sum(weights.file(name).stat().st_size for name in weights.NETS)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, KiB elsewhere
    peak /= 2**20 if sys.platform == "darwin" else 2**10
    return (
        f"both networks at 512x512: {1000 * statistics.median(seconds[1:]):.0f} ms, "
        f"{size / 1e6:.1f} MB of weights; peak memory of the process {peak:,.0f} MiB"
    )


def pipes(lines: list[list[str]]) -> str:
    """Lay out a Markdown table, its head first."""
    ruled = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in ruled)


if __name__ == "__main__":
    sys.exit(main())
