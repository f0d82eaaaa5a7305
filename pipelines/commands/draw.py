"""The command `draw`: Gaussians as ellipses, dots or a heatmap."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipelines.commands import options as common

KINDS = ("ellipses", "filled", "centres", "heatmap")
DPI = 100


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("gaussians", metavar="FILE.t2d")
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT.png|svg",
        help="a picture; as .svg, ellipses with gradients that approximate the render",
    )  # fmt: skip
    parser.add_argument(
        "--kind", choices=KINDS, default=KINDS[0], help=f"of a picture, not .svg ({KINDS[0]})"
    )
    parser.add_argument("--over", metavar="PICTURE", help="what is behind it")
    parser.add_argument("--scale", type=float, default=1.0, metavar="S", help="times its size (1)")
    common.add_backend(parser)


def run(options: argparse.Namespace) -> int:
    """Draw a file."""
    from taichi2dgs.storage import files, pictures, t2d

    out = options.output
    is_svg = Path(out).suffix.lower() == ".svg"
    if not is_svg:
        pictures.format_of(out)
    gaussians = t2d.load(options.gaussians)
    files.check_writable(out)
    if is_svg:
        said = _write_svg(out, gaussians, options)
    else:
        said = _write_picture(out, gaussians, options)
    print(f"{out}: {len(gaussians)} Gaussians, {said}")
    return 0


def _write_svg(out: str, gaussians, options: argparse.Namespace) -> str:
    from taichi2dgs import runtime
    from taichi2dgs.exchange import svg
    from taichi2dgs.exchange.splats import splats_of
    from taichi2dgs.storage import t2d

    if options.kind != KINDS[0] or options.over or options.scale != 1:
        raise ValueError(
            f"{out}: --kind, --over and --scale are for pictures; expected none of them"
        )
    runtime.init(options.backend)
    splats = splats_of(gaussians)
    data = svg.drawing(splats).encode()
    t2d.write(out, data)
    return f"{len(data):,} bytes, approximate: about {splats.psnr:.1f} dB against the render"


def _write_picture(out: str, gaussians, options: argparse.Namespace) -> str:
    import numpy as np

    from taichi2dgs import draw
    from taichi2dgs.checks import number, shown
    from taichi2dgs.storage import files

    height, width = gaussians.size
    scale = number(options.scale)
    if not 0 < scale <= 64:
        raise ValueError(f"scale={shown(options.scale)}; expected 0 < scale <= 64")
    draw.check_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = (max(1, round(scale * width)) / DPI, max(1, round(scale * height)) / DPI)
    canvas = FigureCanvasAgg(Figure(figsize=size, dpi=DPI, facecolor="white"))
    axes = canvas.figure.add_axes((0, 0, 1, 1))
    if options.kind == "centres":
        draw.centres(gaussians, axes, image=options.over)
    elif options.kind == "heatmap":
        draw.heatmap(gaussians, axes, image=options.over, strength=0.7 if options.over else 1.0)
    else:
        draw.ellipses(gaussians, axes, image=options.over, filled=options.kind == "filled")
    axes.set_aspect("auto")
    axes.axis("off")
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    files.write_image(out, pixels)
    return f"{pixels.shape[0]}x{pixels.shape[1]}"
