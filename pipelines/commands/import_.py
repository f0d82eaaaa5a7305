"""The command `import`: files of others as Gaussians."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipelines.commands import options as common
from taichi2dgs.settings import QUALITIES


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "file", metavar="FILE",
        help="an .npz of `export` or the viewer gaussian_image; a checkpoint of GaussianImage",
    )  # fmt: skip
    parser.add_argument("-o", "--output", metavar="OUT.t2d", help="FILE's name .t2d")
    parser.add_argument(
        "--size", type=common.size, metavar="HxW", help="of the picture, where the file has none"
    )
    parser.add_argument("--quality", default="lossless", help=f"{', '.join(QUALITIES)} (lossless)")


def run(options: argparse.Namespace) -> int:
    """Write a .t2d file of what is in a file of others."""
    from taichi2dgs.exchange import arrays
    from taichi2dgs.storage import files, t2d

    out = options.output or f"{Path(options.file).stem}.t2d"
    if Path(out).suffix != ".t2d":
        raise ValueError(f"{out}: Gaussians are saved as .t2d")
    found = arrays.read(options.file, options.size)
    files.check_writable(out)
    t2d.write(out, t2d.encode(found.gaussians, options.quality))
    height, width = found.gaussians.size
    left = f"; {found.left_out} are not finite, and left out" if found.left_out else ""
    print(f"{out}: {len(found.gaussians)} Gaussians of {found.kind}, {height}x{width}{left}")
    return 0
