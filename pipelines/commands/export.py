"""The command `export`: Gaussians as files of others."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipelines.commands import options as common

ENDINGS = (".ply", ".glb", ".npz")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("gaussians", metavar="FILE.t2d")
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT.ply|glb|npz",
        help="splats for 3D viewers, approximate; or arrays of NumPy, exact",
    )  # fmt: skip
    common.add_backend(parser)


def run(options: argparse.Namespace) -> int:
    """Write a file of others, and say how near its picture comes."""
    from taichi2dgs import runtime
    from taichi2dgs.exchange import arrays, files3d
    from taichi2dgs.exchange.splats import splats_of
    from taichi2dgs.storage import files, t2d

    out, ending = options.output, Path(options.output).suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(f"{out}: cannot be exported; expected a name in {', '.join(ENDINGS)}")
    gaussians = t2d.load(options.gaussians)
    files.check_writable(out)
    if ending == ".npz":
        data, said = arrays.npz(gaussians), "exact"
    else:
        runtime.init(options.backend)
        splats = splats_of(gaussians)
        data = files3d.ply(splats) if ending == ".ply" else files3d.glb(splats)
        said = (
            f"approximate: viewers blend by sorted opacity, {splats.psnr:.2f} dB against the render"
        )
    t2d.write(out, data)
    print(f"{out}: {len(gaussians)} Gaussians, {len(data):,} bytes, {said}")
    return 0
