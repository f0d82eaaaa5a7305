"""The maps of materials in one set of Gaussians, against a file for each: bytes at equal PSNR.

    python benchmarks/run_stacks.py --data STACKS

Each folder of --data is a material. Its maps are fitted together and saved, and what each map has
in that file, in dB, is what it has to reach in one of its own: fits of the map alone halve or
double its Gaussians until two of them enclose that PSNR. Between these, the logarithm of the bytes
is taken as linear in dB.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from common import measure
from tqdm import tqdm

import pipelines
import taichi2dgs
from taichi2dgs import metrics
from taichi2dgs.storage import t2d
from taichi2dgs.storage.maps import Stack, split

LEAST = 8  # Gaussians of a map alone
MOST = 4  # times as many as of all maps together
HIGHEST = 99.0  # dB, for a map that is one colour


@measure.script
def main() -> None:
    options = parse()
    taichi2dgs.init(options.backend)
    folders = sorted(path for path in options.data.iterdir() if path.is_dir())[: options.materials]
    if not folders:
        raise ValueError(f"--data {options.data}: expected folders of maps")
    side, k, steps = options.side, options.k, options.steps
    about = (
        f"{len(folders)} materials, {side}x{side}, {k} Gaussians of all maps, {steps} iterations"
    )
    run = measure.describe(f"{about}, quality {options.quality}", [options.data])
    rows, table = [], ""
    for folder in tqdm(folders, "materials", unit="material"):
        rows.append({"material": folder.name, **compared(folder, options)})
        table = as_markdown(run, rows)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(table)
        options.out.with_suffix(".json").write_text(
            json.dumps({**run, "rows": rows}, indent=1) + "\n"
        )
    print(table)


def compared(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Fit a material's maps together, and each alone."""
    whole = taichi2dgs.read_stack(folder)
    stack = Stack(measure.centre_crop(whole.image, options.side), whole.maps)
    together, psnrs = saved(stack, options.k, options)
    parts = {
        one.name: Stack(part.contiguous(), (one,)) for one, part in split(stack.image, stack.maps)
    }
    alone = {}
    for name, part in tqdm(parts.items(), folder.name, unit="map", leave=False):
        alone[name] = bytes_alone(part, psnrs[name], options)
    return {
        "channels": stack.image.shape[2],
        "bytes": together,
        "maps": {
            name: {"psnr": round(psnrs[name], 3), "bytes": round(size), "reached": reached}
            for name, (size, reached) in alone.items()
        },
    }


def saved(stack: Stack, k: int, options: argparse.Namespace) -> tuple[int, dict[str, float]]:
    """Fit and save; return the bytes of the file, and the PSNR of each map in it."""
    start = pipelines.initialize(stack, k)  # type: ignore[arg-type]
    fitted = taichi2dgs.fit(stack, start, steps=options.steps).gaussians
    data = t2d.encode(fitted, options.quality)
    render = t2d.decode(data).gaussians.render()
    pairs = zip(split(render, stack.maps), split(stack.image, stack.maps), strict=True)
    psnrs = {one.name: metrics.psnr(ours, theirs) for (one, ours), (_, theirs) in pairs}
    return len(data), {name: min(value, HIGHEST) for name, value in psnrs.items()}


def bytes_alone(stack: Stack, psnr: float, options: argparse.Namespace) -> tuple[float, bool]:
    """Return the bytes of a map's own file at a PSNR, and whether that was reached.

    Where the fewest Gaussians are above it, or the most below, it is the bytes of those.
    """
    (one,) = stack.maps
    k, found = max(LEAST, options.k // 2), {}
    most = min(MOST * options.k, stack.image.shape[0] * stack.image.shape[1])
    while k not in found:
        size, psnrs = saved(stack, k, options)
        found[k] = (psnrs[one.name], size)
        k = max(LEAST, k // 2) if found[k][0] >= psnr else min(most, 2 * k)
    above = [point for point in found.values() if point[0] >= psnr]
    below = [point for point in found.values() if point[0] < psnr]
    if not above:
        return float(max(below)[1]), False
    if not below:
        return float(min(size for _, size in above)), True
    (high, large), (low, small) = min(above), max(below)
    share = (psnr - low) / (high - low)
    return math.exp(math.log(small) + share * (math.log(large) - math.log(small))), True


def as_markdown(run: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Return the page of a table."""
    lines = [
        f"{run['pictures']}: kB of one file for all maps, and of a file for each map, at the PSNR",
        "that it has in that one.",
        "",
        f"- machine: {run['machine']}; backend {run['backend']}; commit {run['commit']}",
        f"- `{run['command']}`",
        "",
        "| material | channels | one file | a file each | share | each map: dB, kB alone |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        apart = sum(each["bytes"] for each in row["maps"].values())
        each = ", ".join(
            f"{name} {one['psnr']:.2f}, {'' if one['reached'] else '> '}{one['bytes'] / 1000:.1f}"
            for name, one in row["maps"].items()
        )
        lines.append(
            f"| {row['material']} | {row['channels']} | {row['bytes'] / 1000:.1f} | "
            f"{apart / 1000:.1f} | {row['bytes'] / apart:.0%} | {each} |"
        )
    return "\n".join(lines) + "\n"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], epilog="See the top of this file."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of folders of maps")
    parser.add_argument("--materials", type=int, help="how many, from the first (all)")
    parser.add_argument("--side", type=int, default=512, help="of the centre crop (512)")
    parser.add_argument("--k", type=int, default=20_000, help="Gaussians of all maps (20000)")
    parser.add_argument("--steps", type=int, default=200, help="of each fit (200)")
    parser.add_argument("--quality", default="high", help="of the files (high)")
    parser.add_argument("--backend", help="cuda, vulkan, metal, opengl, cpu or auto")
    out = measure.RESULTS / "stacks.md"
    parser.add_argument("--out", type=Path, default=out, help="(results/stacks.md)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
