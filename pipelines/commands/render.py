"""The command `render`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from pipelines.commands import options as common


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("gaussians", metavar="FILE.t2d")
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT.png",
        help="a picture; of several maps, a folder for all of them",
    )  # fmt: skip
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--size", type=common.size, metavar="HxW", help="the picture's own")
    extent.add_argument("--scale", type=float, metavar="S", help="so many times the picture's own")
    parser.add_argument(
        "--crop", type=common.crop, metavar="TOP,LEFT,HxW", help="part of that size to render"
    )
    parser.add_argument(
        "--alias", action="store_true", help="below the picture's size, sample instead of averaging"
    )
    parser.add_argument(
        "--tile", action="store_true", help="wrap around at the edges, whatever the file says"
    )
    parser.add_argument("--map", metavar="NAME", help="of several maps, the one to write")
    parser.add_argument(
        "--bits", type=int, choices=(8, 16, 32),
        help="of a channel (as many as the file says); 32 are floats, of colours linear light",
    )  # fmt: skip
    common.add_backend(parser)


def run(options: argparse.Namespace) -> int:
    """Render a file to a picture."""
    from taichi2dgs import runtime
    from taichi2dgs.storage import files, pictures, t2d
    from taichi2dgs.storage.maps import MOST, split, whole_maps

    if pictures.has_ending(Path(options.output)):
        pictures.format_of(Path(options.output))  # or the error, before anything is read
    gaussians = t2d.load(options.gaussians)
    if gaussians.channels > MOST and not gaussians.maps:
        raise ValueError(
            f"{options.gaussians}: {gaussians.channels} channels without maps; expected 1 to {MOST}"
        )
    maps = whole_maps(gaussians.maps, gaussians.channels)
    targets = _targets(options, [one.name for one in maps], [one.bits for one in maps])
    for path in targets.values():
        files.check_writable(path)
    runtime.init(options.backend)
    started = time.perf_counter()
    image = gaussians.render(
        options.size,
        options.crop,
        scale=options.scale,
        antialias=not options.alias,
        tile=options.tile or None,
    )
    for one, part in split(image, maps):
        if one.name in targets:
            files.write_map(targets[one.name], part, one, options.bits)
    print(
        f"{options.output}: {image.shape[0]}x{image.shape[1]}, {len(gaussians)} Gaussians, "
        f"{time.perf_counter() - started:.2f} s, backend {runtime.current()}"
    )
    return 0


def _targets(options: argparse.Namespace, names: list[str], depths: list[int]) -> dict[str, str]:
    """Return the file that each map is written to, by its name.

    Raises:
        ValueError: there is no such map, or the output is no picture's, or none of a folder.
    """
    from taichi2dgs.storage import pictures

    source, out = options.gaussians, Path(options.output)
    if options.map is not None and options.map not in names:
        known = ", ".join(filter(None, names)) or "none, as it is one picture"
        raise ValueError(f"{source}: has no map {options.map!r}; expected {known}")
    if options.map is not None or len(names) == 1:
        pictures.format_of(out)
        return {options.map or names[0]: str(out)}
    if pictures.has_ending(out):
        raise ValueError(f"{out}: {source} has the maps {', '.join(names)}; expected a folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{out}: cannot be made ({error.strerror or error})") from error
    floats = [options.bits == 32 or (options.bits is None and depth == 32) for depth in depths]
    return {
        name: str(out / (name + (".tif" if is_float else ".png")))
        for name, is_float in zip(names, floats, strict=True)
    }
