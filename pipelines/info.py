"""What a .t2d file holds, and what it costs."""

from __future__ import annotations

import argparse

from taichi2dgs import files, metrics, runtime, t2d

COLUMNS = ("centres", "log-size", "stretch", "colours")


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command `info`."""
    parser = commands.add_parser("info", help="say what a .t2d file holds and what it costs")
    parser.set_defaults(run=run)
    parser.add_argument("gaussians", metavar="FILE.t2d")
    parser.add_argument("--image", metavar="PICTURE", help="measure the PSNR of the render")
    parser.add_argument("--backend", metavar="NAME", help=f"{', '.join(runtime.BACKENDS)} (auto)")


def run(options: argparse.Namespace) -> int:
    """Print what is known of a file."""
    for name, value in lines(options.gaussians, options.image, options.backend).items():
        print(f"{name:18} {value}")
    return 0


def lines(path: str, image: str | None = None, backend: str | None = None) -> dict[str, str]:
    """Return what is known of a .t2d file, by name.

    Args:
        path: of the file.
        image: a picture to compare its render with, if any.
        backend: that renders.

    Raises:
        ValueError: a file cannot be read, or the picture is of another size.
    """
    contents = t2d.read(path)
    g, bits = contents.gaussians, 8 * contents.bytes
    height, width = g.size
    found = {
        "bytes": f"{contents.bytes:,}",
        "bits per pixel": f"{bits / (height * width):.3f}",
        "bits per Gaussian": f"{bits / max(len(g), 1):.1f}",
        "Gaussians": f"{len(g):,}",
        "size": f"{height}x{width}",
        "channels": str(g.channels),
        "blend": f"{g.settings.blend}, top_k {g.settings.top_k}, cutoff {g.settings.cutoff:g}, "
        f"eps {g.settings.eps:g}",
        "quality": contents.quality,
    }
    for name, step in zip(COLUMNS, contents.steps, strict=False):
        found[f"steps of {name}"] = f"{step:.4g} at the usual size"
    if image is not None:
        picture = files.read_image(image)
        runtime.init(backend)
        found["PSNR"] = f"{metrics.psnr(g.render(), picture):.2f} dB"
    return found
