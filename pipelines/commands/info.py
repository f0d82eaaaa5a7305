"""The command `info`: what a .t2d file holds, and what it costs."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from pipelines.commands import options as common

# What a step of a rounded number is measured in, for Gaussians of the usual size.
STEPS = {
    "centres": "pixels",
    "log-size": "of a factor's logarithm",
    "stretch": "of a factor's logarithm",
    "colours": "of full brightness",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("gaussians", metavar="FILE.t2d")
    parser.add_argument("--image", metavar="PICTURE", help="measure the PSNR of the render")
    parser.add_argument("--json", action="store_true", help="numbers for a program to read")
    common.add_backend(parser)


def run(options: argparse.Namespace) -> int:
    """Print what is known of a file."""
    known = facts(options.gaussians, options.image, options.backend)
    if options.json:
        print(json.dumps(known))
        return 0
    for name, value in lines(known).items():
        print(f"{name:18} {value}")
    return 0


def facts(path: str, image: str | None = None, backend: str | None = None) -> dict[str, Any]:
    """Return what is known of a .t2d file, as numbers and names.

    Args:
        path: of the file.
        image: a picture to compare its render with, if any; of several maps, their folder.
        backend: that renders.

    Raises:
        ValueError: a file cannot be read, or the picture is of another size.
    """
    from taichi2dgs import metrics, runtime
    from taichi2dgs.rendering.stack import psnrs
    from taichi2dgs.storage import stacks, t2d

    contents = t2d.read(path)
    g = contents.gaussians
    known: dict[str, Any] = {
        "bytes": contents.bytes,
        "gaussians": len(g),
        "height": g.size[0],
        "width": g.size[1],
        "channels": g.channels,
        "blend": g.settings.blend,
        "top_k": g.settings.top_k,
        "cutoff": g.settings.cutoff,
        "eps": g.settings.eps,
        "tile": g.settings.tile,
        "quality": contents.quality,
        "progressive": contents.progressive,
        "steps": dict(zip(STEPS, contents.steps, strict=False)),
        "maps": [asdict(one) for one in g.maps],
    }
    if image is not None:
        picture = stacks.stored_as(image, g.maps)
        runtime.init(backend)
        known["psnr"] = metrics.psnr(g.render(), picture)
        known["psnrs"] = psnrs(g, picture)
    return known


def lines(known: dict[str, Any]) -> dict[str, str]:
    """Return `facts` in words."""
    bits, n = 8 * known["bytes"], known["gaussians"]
    said = {
        "bytes": f"{known['bytes']:,}",
        "bits per pixel": f"{bits / (known['height'] * known['width']):.3f}",
        "bits per Gaussian": f"{bits / max(n, 1):.1f}",
        "Gaussians": f"{n:,}",
        "size": f"{known['height']}x{known['width']}",
        "channels": str(known["channels"]),
        "blend": f"{known['blend']}, of the {known['top_k']} nearest within {known['cutoff']:g} "
        f"standard deviations, eps {known['eps']:g}",
        "quality": known["quality"] + ", progressive" * known["progressive"],
    }
    if known["blend"] == "sum":
        said["blend"] = f"sum, of all within {known['cutoff']:g} standard deviations"
    if known["tile"]:
        said["tile"] = "wraps around at its edges"
    for name, step in known["steps"].items():
        said[f"steps of {name}"] = f"{step:.4g} {STEPS[name]}, at the usual size"
    for one in known["maps"]:
        kind = one["kind"] if one["kind"] != "pq" else f"light up to {one['high']:.4g}, by PQ"
        said[f"map {one['name']}".strip()] = (
            f"{one['channels']} channels, {kind}, {one['bits']} bits"
        )
    if "psnr" in known:
        said["PSNR"] = f"{known['psnr']:.2f} dB"
        said |= {f"PSNR {label}": f"{psnr:.2f} dB" for label, psnr in known["psnrs"].items()}
    return said
