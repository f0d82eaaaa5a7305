"""Speed and memory of fits and renders by size, and of the same fit step in torch alone.

    python benchmarks/run_speed.py --sizes 256 512

One picture is resized, with the same number of Gaussians per pixel at every size, so time and
memory per pixel ought to be the same. The state measured is that after --steps steps from the
prior's start; steps of a learning rate of 0 do all the work there and move nothing. A JSON file
with every repeat and a Markdown table appear in --out; both carry machine, backend, versions,
commit and command. Compiling is not on the clock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from common import costs, measure, stages, table
from common.torch_step import TorchFit
from torch import Tensor

import pipelines
import taichi2dgs
from nets.unet import count_of
from pipelines.commands.options import size as height_and_width
from taichi2dgs import runtime
from taichi2dgs.fitting.engine import Engine
from taichi2dgs.fitting.fit import FitOptions
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.order import morton_order
from taichi2dgs.storage import files

SIZES = ((256, 256), (512, 512), (1024, 1024), (2048, 2048))
LARGE = (2160, 3840)  # only backends in FAST measure it
FAST = ("cuda", "metal")
YARDSTICK = (256, 256)  # the size of the step in torch alone
SECONDS = 0.25  # that a repeat takes at least
WARM_UP = (64, 64)


@measure.script
def main() -> None:
    options = parse()
    backend = taichi2dgs.init(options.backend)
    image = files.read_image(options.image)
    seconds = time.perf_counter()
    fitted(resized(image, WARM_UP), options).render()
    seconds = time.perf_counter() - seconds
    path = Path(options.image)
    run = measure.describe(f"{path.name}, resized", [path] if path.exists() else [])
    run |= {"warm_up_seconds": round(seconds, 2), "base_mib": round(costs.peak_mib())}
    result = {**run, **measure_sizes(image, options, backend)}
    out = options.out or measure.RESULTS / f"speed_{backend}"
    out.parent.mkdir(parents=True, exist_ok=True)
    page = as_markdown(result)
    with files.replacing(out.with_suffix(".json")) as temporary:
        Path(temporary).write_text(json.dumps(result, indent=1) + "\n")
    out.with_suffix(".md").write_text(page)
    print(page)


def measure_sizes(image: Tensor, options: argparse.Namespace, backend: str) -> dict[str, Any]:
    """Measure every size, from the smallest so that each sets the peak, and what is beside them."""
    sizes = options.sizes or [*SIZES, *([LARGE] if backend in FAST else [])]
    sizes = sorted(sizes, key=lambda size: size[0] * size[1])
    with tempfile.TemporaryDirectory() as folder:
        states = [Path(folder) / f"{height}x{width}.pt" for height, width in sizes]
        rows = []
        for size, state in zip(sizes, states, strict=True):
            print(f"{size[0]}x{size[1]} ...", file=sys.stderr, flush=True)
            rows.append(measure_size(resized(image, size), options, state))
        for row, profile in zip(rows, stages.measure(states, backend) or [], strict=False):
            row.update(profile)
        networks = [round(1000 * t, 2) for t in table.networks_times()]
        yardstick = None
        if YARDSTICK in sizes:
            index = sizes.index(YARDSTICK)
            yardstick = measure_torch(torch.load(states[index], weights_only=False), options)
            yardstick["times"] = round(
                statistics.median(yardstick["step_ms"]) / statistics.median(rows[index]["step_ms"]),
                1,
            )
    return {"networks_ms": networks, "torch": yardstick, "rows": rows}


def fitted(image: Tensor, options: argparse.Namespace) -> Gaussians:
    """Return the Gaussians that are measured: those of an image after a few steps of its fit."""
    k = count_of(options.k, image.shape[0] * image.shape[1])
    return taichi2dgs.fit(image, pipelines.initialize(image, k), steps=options.steps).gaussians


def measure_size(image: Tensor, options: argparse.Namespace, state: Path) -> dict[str, Any]:
    """Measure one size, and save the state measured to a file."""
    gaussians = fitted(image, options)
    order = morton_order(gaussians.xy, gaussians.size)
    saved = {"target": image, "params": gaussians.packed()[order], "settings": gaussians.settings}
    torch.save(saved, state)
    engine = stages.engine_of(saved)
    number = 0

    def step() -> None:
        nonlocal number
        number += 1
        engine.step(number, 0.0)

    return {
        "size": [*gaussians.size],
        "gaussians": len(gaussians),
        "entries": engine.work.required(),
        "psnr": round(engine.psnrs()[0], 2),
        "step_ms": repeated(step, options, engine.poll),
        "cores": round(costs.cores_of(step, SECONDS, engine.poll), 2),
        **render_times(gaussians, options),
        "state_bytes": state_bytes(engine),
        "peak_mib": round(costs.peak_mib(), 1),
    }


def render_times(gaussians: Gaussians, options: argparse.Namespace) -> dict[str, list[float]]:
    """Milliseconds of a render that stays on the device, and of one that becomes a NumPy array."""
    there = gaussians.to(runtime.device())
    return {
        "render_ms": repeated(there.render, options, runtime.sync),
        "numpy_ms": repeated(lambda: there.render().cpu().numpy(), options, runtime.sync),
    }


def repeated(work, options: argparse.Namespace, wait) -> list[float]:
    """Return milliseconds of each repeat, which has calls enough to last for a while."""
    (first,) = costs.times_of(work, 1, 1, wait)
    count = max(1, round(SECONDS / first))
    return [round(1000 * t, 4) for t in costs.times_of(work, options.repeats, count, wait)]


def state_bytes(engine: Engine) -> int:
    """Bytes of all arrays that a fit keeps on the device."""
    arrays = [one.arr for one in vars(engine).values() if isinstance(one, runtime.ti.Ndarray)]
    own = sum(array.nelement() * array.element_size() for array in arrays)
    return own + engine.work.bytes()


def measure_torch(state: dict, options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of the fit step in torch alone, in the same state."""
    device = runtime.device()
    target, params = state["target"].to(device), state["params"].to(device)
    fit = TorchFit(target, params, FitOptions(settings=state["settings"]))
    psnr = fit.step(0.0)
    times = costs.times_of(lambda: fit.step(0.0), options.repeats, wait=runtime.sync)
    return {
        "device": str(device),
        "psnr": round(psnr, 2),
        "step_ms": [round(1000 * t, 2) for t in times],
    }


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return an image at another size. [H, W, C]"""
    batch = image.permute(2, 0, 1)[None]
    scaled = F.interpolate(batch, size, mode="bicubic", antialias=True, align_corners=False)
    return scaled[0].permute(1, 2, 0).clamp(0, 1).contiguous()


def as_markdown(result: dict[str, Any]) -> str:
    """Return a page: how it was measured, speed and memory by size, stages, the yardstick."""
    rows = result["rows"]
    parts = [
        f"{result['pictures']}: medians over repeats, with their spread. A step is an iteration\n"
        "of the fit: binning, selection, blending, loss, gradients and Adam. Peaks of memory are\n"
        "of the whole process, with start and fit; per pixel, above what it held before the first\n"
        "size. Compiling is not counted. Cores are those that a step keeps busy: CPU time over\n"
        "wall time.",
        f"{table.about_run(result)}\n- both networks at 512x512: {spread(result['networks_ms'])} ms"
        f"\n- start, compiling included, before anything was measured: "
        f"{result['warm_up_seconds']:.1f} s, {result['base_mib']:,} MiB",
        table.pipes([SPEED, *map(speed_line, rows)]),
        table.pipes([MEMORY, *(memory_line(row, result["base_mib"]) for row in rows)]),
    ]
    if "stages_ms" in rows[0]:
        names = list(rows[0]["stages_ms"])
        lines = [
            [
                name_of(row),
                *(f"{row['stages_ms'][name]:.2f}" for name in names),
                f"{sum(row['stages_ms'].values()):.2f}",
            ]
            for row in rows
        ]
        parts += [
            "Milliseconds of a step by stage, which Taichi's profiler saw:",
            table.pipes([["size", *names, "sum"], *lines]),
        ]
    if result["torch"]:
        torch_alone = result["torch"]
        parts.append(
            f"The same step at {YARDSTICK[0]}x{YARDSTICK[1]} in torch alone "
            f"(`benchmarks/common/torch_step.py`, {torch_alone['device']}):\n"
            f"{spread(torch_alone['step_ms'])} ms, {torch_alone['times']:.1f} times as long; "
            f"{torch_alone['psnr']:.2f} dB."
        )
    return "\n\n".join(parts) + "\n"


SPEED = [
    "size",
    "Gaussians",
    "PSNR",
    "ms a step",
    "cores",
    "steps/s",
    "ns a pixel",
    "renders/s",
    "to NumPy/s",
    "launches a step",
]
MEMORY = ["size", "tile entries", "state MiB", "bytes a pixel", "peak MiB", "bytes a pixel"]


def speed_line(row: dict) -> list[str]:
    step, render, numpy = (
        statistics.median(row[name]) for name in ("step_ms", "render_ms", "numpy_ms")
    )
    return [
        name_of(row),
        f"{row['gaussians']:,}",
        f"{row['psnr']:.2f}",
        spread(row["step_ms"]),
        f"{row.get('cores', 0):.2f}",
        f"{1000 / step:,.1f}",
        table.brief(1e6 * step / pixels(row)),
        f"{1000 / render:,.1f}",
        f"{1000 / numpy:,.1f}",
        str(row.get("launches", "-")),
    ]


def memory_line(row: dict, base: float) -> list[str]:
    grown = (row["peak_mib"] - base) * 2**20 / pixels(row)
    return [
        name_of(row),
        f"{row['entries']:,}",
        f"{row['state_bytes'] / 2**20:,.1f}",
        f"{row['state_bytes'] / pixels(row):.0f}",
        f"{row['peak_mib']:,.0f}",
        f"{grown:,.0f}",
    ]


def name_of(row: dict) -> str:
    return f"{row['size'][0]}x{row['size'][1]}"


def pixels(row: dict) -> int:
    return row["size"][0] * row["size"][1]


def spread(times: list[float]) -> str:
    """Return the median, and the least and the greatest."""
    three = (statistics.median(times), min(times), max(times))
    middle, least, most = (f"{t:.0f}" if t >= 100 else f"{t:.3g}" for t in three)
    return f"{middle} ({least} to {most})"


def size(text: str) -> tuple[int, int]:
    """Read HxW, or the side of a square."""
    return height_and_width(f"{text}x{text}" if text.isdecimal() else text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], epilog="See the top of this file."
    )
    sizes = "or the side of a square (256 512 1024 2048, on GPUs also 2160x3840)"
    parser.add_argument("--sizes", type=size, nargs="+", metavar="HxW", help=sizes)
    parser.add_argument("--image", default="sample:astronaut", help="(sample:astronaut)")
    parser.add_argument("--k", type=int, default=50_000, help="Gaussians per 512x512 (50000)")
    parser.add_argument("--steps", type=int, default=20, help="of the fit before (20)")
    parser.add_argument("--repeats", type=int, default=5, help="of every measurement (5)")
    parser.add_argument("--backend", help="cuda, vulkan, metal, opengl, cpu or auto")
    parser.add_argument("--out", type=Path, help="(results/speed_BACKEND)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
