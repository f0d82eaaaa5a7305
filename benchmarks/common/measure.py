"""What the scripts that make tables share: their options, their pictures and what they say."""

from __future__ import annotations

import argparse
import functools
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.identity import RESULTS, ROOT, code_digest, commit, measured_package
from pipelines import baselines
from pipelines.starts.sampling import METHODS
from pipelines.training.images import cropped
from taichi2dgs import doctor, runtime
from taichi2dgs.storage.pictures import is_picture


def script(main: Callable[[], object]) -> Callable[[], int]:
    """Return the main function of a script: bad input makes one line and exit code 2.

    What stops it, as Ctrl-C does, and is not handled in `main` makes one line and exit code 130.
    """

    @functools.wraps(main)
    def run() -> int:
        try:
            measured_package()
            main()
        except (ValueError, RuntimeError, ImportError, OSError) as error:
            print(f"{Path(sys.argv[0]).stem}: error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print(f"{Path(sys.argv[0]).stem}: stopped", file=sys.stderr)
            return 130
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


def ramp(channels: int) -> Tensor:
    """Return a small picture that compiles the kernels before anything is timed. [64, 64, C]"""
    return torch.linspace(0, 1, 64 * 64 * channels, device=runtime.device()).view(64, 64, channels)


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
        folders: of the pictures; the command names them FOLDER, and paths from this checkout on.
    """
    private = {str(folder): "FOLDER" for folder in folders}
    arguments = [private.get(a, a.removeprefix(f"{ROOT}/")) for a in sys.argv[1:]]
    return {
        "command": f"python benchmarks/{Path(sys.argv[0]).name} {' '.join(arguments)}",
        "pictures": pictures,
        "commit": commit(),
        "code": code_digest(Path(sys.argv[0])),
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
