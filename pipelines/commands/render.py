"""The command `render`."""

from __future__ import annotations

import argparse
import time

from pipelines.commands import options as common


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("gaussians", metavar="FILE.t2d")
    parser.add_argument("-o", "--output", required=True, metavar="OUT.png")
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--size", type=common.size, metavar="HxW", help="the picture's own")
    extent.add_argument("--scale", type=float, metavar="S", help="so many times the picture's own")
    parser.add_argument(
        "--crop", type=common.crop, metavar="TOP,LEFT,HxW", help="part of that size to render"
    )
    parser.add_argument(
        "--alias", action="store_true", help="below the picture's size, sample instead of averaging"
    )
    common.add_backend(parser)


def run(options: argparse.Namespace) -> int:
    """Render a file to a picture."""
    from taichi2dgs import runtime
    from taichi2dgs.storage import files, pictures, t2d

    pictures.format_of(options.output)
    gaussians = t2d.load(options.gaussians)
    files.check_writable(options.output)
    runtime.init(options.backend)
    started = time.perf_counter()
    image = gaussians.render(
        options.size, options.crop, scale=options.scale, antialias=not options.alias
    )
    files.write_image(options.output, image)
    print(
        f"{options.output}: {image.shape[0]}x{image.shape[1]}, {len(gaussians)} Gaussians, "
        f"{time.perf_counter() - started:.2f} s, backend {runtime.current()}"
    )
    return 0
