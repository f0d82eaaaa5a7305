"""Measure fits of pictures: what the scripts that make tables share."""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from common import quality
from common.costs import peak_mib, reset_peak, seconds_of
from common.identity import RESULTS, commit, digest, measured_package
from pipelines import baselines, configuration
from pipelines.baselines.starts import PEERS, begin
from pipelines.starts.sampling import METHODS
from pipelines.training.images import cropped
from taichi2dgs import doctor, metrics, runtime
from taichi2dgs.storage import files
from taichi2dgs.storage.pictures import is_picture

# Iterations that tables report, where a fit makes them.
STEPS = (0, 25, 50, 100, 200, 500, 1000, 3000, 5000, 50_000)
SECONDS = (1, 2, 5, 10, 30)
KINDS = ("dataset", "k", "method", "sampler")  # what tells one kind of fit from another


def script(main: Callable[[], object]) -> Callable[[], int]:
    """Return the main function of a script: bad input makes one line and exit code 2."""

    @functools.wraps(main)
    def run() -> int:
        try:
            measured_package()
            main()
        except (ValueError, RuntimeError, ImportError, OSError) as error:
            print(f"{Path(sys.argv[0]).stem}: error: {error}", file=sys.stderr)
            return 2
        return 0

    return run


def add_options(parser: argparse.ArgumentParser, out: str) -> None:
    """Add what every benchmark of fits lets one choose."""
    parser.add_argument("--k", type=int, nargs="+", default=[50_000], help="Gaussians (50000)")
    parser.add_argument(
        "--methods",
        nargs="+",
        default=["ours"],
        metavar="METHOD",
        help=f"(ours) {', '.join(baselines.names())}, or YAML files",
    )
    parser.add_argument(
        "--sampler",
        nargs="+",
        default=["default"],
        choices=["default", *METHODS],
        help="in place of the method's",
    )
    parser.add_argument("--steps", type=int, help="iterations; 0: starts only (200)")
    parser.add_argument(
        "--seconds",
        type=float,
        nargs="+",
        help="budgets beside or in place of --steps; methods whose rates fall towards"
        " the end fit once for each",
    )
    parser.add_argument("--images", type=int, help="how many of each folder, from the first (all)")
    parser.add_argument("--config", help="options of fused fits: a YAML file or a shipped name")
    parser.add_argument("--backend", help="cuda, vulkan, metal, opengl, cpu or auto")
    parser.add_argument("--out", type=Path, default=RESULTS / out, help=f"(results/{out})")


def spread_pictures(folder: Path, count: int) -> list[Path]:
    """Return so many pictures of a folder, evenly spread over it, or raise ValueError."""
    count, every = len(find_pictures(folder, count)), find_pictures(folder, None)
    return every[:: len(every) // count][:count]


def training_parser(
    about: str | None, images: int, crop: int, steps: int | list[int]
) -> argparse.ArgumentParser:
    """Return the options of a script that looks for numbers on photographs that no table measures.

    Args:
        about: the script's docstring, whose first line is shown.
        images, crop, steps: defaults; several numbers of steps where that is a list.
    """
    parser = argparse.ArgumentParser(
        description=(about or "").split("\n")[0], epilog="See the top of this file."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--images", type=int, default=images, help=f"how many ({images})")
    parser.add_argument("--crop", type=int, default=crop, help=f"side of the centre crop ({crop})")
    several, shown = ("+", " ".join(map(str, steps))) if isinstance(steps, list) else (None, steps)
    parser.add_argument(
        "--steps", type=int, nargs=several, default=steps, help=f"iterations of a fit ({shown})"
    )
    parser.add_argument("--backend", help="cuda, vulkan, metal, opengl, cpu or auto")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    options = parser.parse_args()
    if options.steps is None and options.seconds is None:
        options.steps = 200
    return options


def find_pictures(folder: Path, count: int | None) -> list[Path]:
    """Return the first pictures of a folder, all of them for None.

    Raises:
        ValueError: there are none, or too few are wanted.
    """
    if count is not None and count < 1:
        raise ValueError(f"--images {count}: expected 1 or more")
    found = sorted(filter(is_picture, folder.glob("*")))
    if not found:
        raise ValueError(f"--data {folder}: no pictures there")
    return found[:count]


def measure_all(
    pictures: dict[str, list[Path]],
    prepare: Callable[[Path], Tensor],
    run: dict[str, Any],
    options: argparse.Namespace,
) -> list[dict]:
    """Measure every picture in every kind of fit, but those that an earlier run has measured.

    Args:
        pictures: of each dataset.
        prepare: reads a picture as it is to be fitted. [H, W, C]
        run: see `describe`.
        options: of the command line.
    """
    out = options.out.with_suffix(".json")
    out.parent.mkdir(parents=True, exist_ok=True)
    paths = [Path(name) for name in (*options.methods, options.config or "")]
    if own := {path.name: digest(path.read_bytes()) for path in paths if path.is_file()}:
        run = {**run, "files": own}
    rows = earlier_rows(out, run)
    done = {(row["image"], *(row[name] for name in KINDS)) for row in rows}
    quality.check_packages()
    methods = {
        (name, sampler): method_of(name, sampler, options.config)
        for name, sampler in itertools.product(options.methods, options.sampler)
    }
    warm = set()
    fits = [
        (dataset, k, name, sampler, path)
        for dataset in pictures
        for k, name, sampler in itertools.product(options.k, options.methods, options.sampler)
        for path in pictures[dataset]
    ]
    bar = tqdm(fits, "fits", unit="fit")
    for dataset, k, name, sampler, path in bar:
        kind = dict(zip(KINDS, (dataset, k, Path(name).stem, sampler), strict=True))
        if (path.stem, *kind.values()) in done:
            continue
        method = methods[name, sampler]
        image = prepare(path).to(runtime.device())
        if (name, sampler) not in warm:
            baselines.run(image, k, method, steps=2)
            warm.add((name, sampler))
        rows.append({"image": path.stem, **kind, **measure(image, k, method, options)})
        bar.set_postfix_str(f"{k} {name} {path.stem} {rows[-1]['psnr']:.2f} dB")
        with files.replacing(out) as temporary:
            Path(temporary).write_text(json.dumps({**run, "rows": rows}, indent=1) + "\n")
    return rows


def method_of(name: str, sampler: str, config: str | None) -> baselines.Method:
    method = baselines.load(name)
    if sampler != "default":
        if method.start in PEERS:
            raise ValueError(f"--sampler {sampler}: {name} has its own way to start")
        method = replace(method, sampler=sampler)
    options = configuration.load(config) if config and method.fused else {}
    return replace(method, fit={**options, **method.fit})  # what makes a method itself stays


def earlier_rows(out: Path, run: dict[str, Any]) -> list[dict]:
    """Return what the same command has measured of the same code before it was killed."""
    try:
        earlier = json.loads(out.read_text())
        rows = earlier.pop("rows")
    except (OSError, ValueError, KeyError, AttributeError):
        return []  # there is no such table; it will be written
    return rows if earlier == run else []


def measure(
    image: Tensor, k: int, method: baselines.Method, options: argparse.Namespace
) -> dict[str, Any]:
    """Fit one picture, and return the row of its table."""
    start_seconds = seconds_of(
        lambda: begin(image, k, method.start, sampler=method.sampler), wait=wait
    )
    fit = functools.partial(baselines.run, image, k, method)
    reset_peak()
    result = longest = None if options.steps is None else fit(steps=options.steps)
    own = {}  # PSNR of fits that end at each budget, or of one fit within it
    budgets = sorted(options.seconds or [])
    for at in budgets if method.ends_at_budget else budgets[-1:]:
        if method.ends_at_budget or longest is None or longest.history[-1].seconds < at:
            longest = fit(seconds=at)
            own[at] = longest.history[-1].psnr
    assert longest is not None  # the command line asks for steps or seconds
    peak = peak_mib()
    result = result or longest
    last = result.history[-1]
    final = result.gaussians.render()
    if not method.ends_at_budget:  # rates do not go by it, and reports are as close as 2 %
        own = {
            at: [r.psnr for r in longest.history if r.seconds <= at][-1]
            for at in sorted({*SECONDS, *budgets})
            if at <= longest.history[-1].seconds * 1.02
        }
    return {
        "size": [*image.shape[:2]],
        "gaussians": len(result.gaussians),
        "psnr_at": {str(r.step): round(r.psnr, 3) for r in result.history if r.step in STEPS},
        "psnr_within": {f"{at:g}": round(psnr, 3) for at, psnr in own.items()},
        "psnr": round(last.psnr, 3),
        "psnr_8bit": round(metrics.psnr(final, image, rounded=True), 3),
        **quality.similarities(final, image),
        **quality.of_files(result.gaussians),
        "steps": last.step,
        "start_seconds": round(start_seconds, 3),
        "ms_per_iteration": round(1000 * last.seconds / max(1, last.step), 2),
        "peak_mib": round(peak),
        "render_fps": round(1 / seconds_of(result.gaussians.render, wait=wait), 1),
    }


def wait() -> None:
    """Wait until the device has done all its work."""
    runtime.sync()
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def centre_crop(image: Tensor, side: int | None) -> Tensor:
    """Return the centre of an image, side x side pixels or as much as there is, all for None."""
    if side is None:
        return image
    if side < 1:
        raise ValueError(f"a centre crop of {side}x{side} pixels; expected a side of 1 or more")
    return cropped(image.permute(2, 0, 1), side).permute(1, 2, 0).contiguous()


def describe(pictures: str, folders: list[Path]) -> dict[str, Any]:
    """Say what is measured, by which command, of which commit, on which machine.

    Args:
        pictures: what they are.
        folders: of the pictures; the command names them FOLDER.
    """
    private = {str(folder) for folder in folders}
    arguments = [Path(sys.argv[0]).name, *("FOLDER" if a in private else a for a in sys.argv[1:])]
    return {
        "command": "python benchmarks/" + " ".join(arguments),
        "pictures": pictures,
        "commit": commit(),
        "package": measured_package(),
        "backend": runtime.current(),
        "machine": machine(),
        "versions": {k: v for k, v in doctor.versions().items() if k != "platform"},
    }


def machine() -> str:
    """Name the processor, and the GPU that runs the kernels, where torch sees it."""
    cores = f"{processor()}, {os.cpu_count()} cores"
    if runtime.current() == "cuda" and torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}; {cores}"
    return cores


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
