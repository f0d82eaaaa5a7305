"""The command `encode`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from pipelines.commands import options as common
from pipelines.defaults import WHOLE

if TYPE_CHECKING:  # what takes seconds to import is imported where it runs
    from pipelines.encoding import Encoding
    from pipelines.search import OnReport
    from taichi2dgs.fitting.options import FitResult
    from taichi2dgs.storage.maps import Stack
    from taichi2dgs.viewing.live import Live

SAMPLE = "sample:astronaut"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "image", nargs="?", help=f"a picture, or many: a folder, URL or tar ({SAMPLE})"
    )
    parser.add_argument(
        "--stack", nargs="+", metavar="MAP",
        help="in its place: pictures of one size, or a folder of them, that share their Gaussians",
    )  # fmt: skip
    common.add_encoding(parser)
    parser.add_argument(
        "--tile", action="store_true", help="a texture that wraps around, without a seam"
    )
    parser.add_argument(
        "--mask", metavar="FILE", help="a grey picture of the same size; black does not count"
    )
    parser.add_argument(
        "-o",
        "--output",
        "--out",
        metavar="OUT.t2d",
        help="IMAGE's name .t2d; of a folder, the folder of files; those there are kept",
    )
    parser.add_argument(
        "--shard",
        type=common.shard,
        default=WHOLE,
        metavar="I/N",
        help="the I-th of N parts of a folder",
    )
    parser.add_argument(
        "--recursive", action="store_true", help="pictures in subfolders and tar shards, too"
    )
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="encode a folder on a Ray cluster: HOST:PORT, auto or local",
    )
    parser.add_argument(
        "--cores", type=common.positive, metavar="N", help="of each task of --ray (1)"
    )
    common.add_set(parser)
    parser.add_argument(
        "--live", action="store_true", help="show the fit in a browser while it goes on"
    )
    common.add_page(parser)
    parser.add_argument(
        "--film", metavar="OUT.gif|webp|mp4", help="write how the render sharpens as a film, too"
    )
    common.add_quiet(parser)
    common.add_backend(parser)


def run(options: argparse.Namespace) -> int:
    """Encode a picture, a folder of them, or several that share their Gaussians."""
    encoding = common.encoding(options)
    if options.tile:
        encoding = encoding.tiled()
    if options.stack is not None:
        _check_stack(options)
        return _encode_picture(options, encoding)
    options.image = options.image or SAMPLE
    from pipelines.plan import is_many

    if is_many(options.image):
        return _encode_folder(options, encoding)
    return _encode_picture(options, encoding)


def _encode_folder(options: argparse.Namespace, encoding: Encoding) -> int:
    from pipelines.folder import encode_folder
    from pipelines.sets import encode_set
    from taichi2dgs import runtime

    if options.output is None:
        raise ValueError(f"{options.image} is a folder; expected --out DIR too")
    shown = {"--live": options.live, "--film": options.film, "--mask": options.mask}
    _refuse(shown, f"{options.image} is a folder; expected a picture")
    layout = common.layout(options)
    given = {
        "source": options.image, "out": options.output, "encoding": encoding,
        "shard": options.shard, "quiet": common.hidden(options.quiet),
        "recursive": options.recursive,
    }  # fmt: skip
    if options.ray is None:
        _refuse({"--cores": options.cores}, "--ray is not given, which it is for")
        runtime.init(options.backend)
        if layout is not None:
            return encode_set(**given, layout=layout)
        return encode_folder(**given)
    from pipelines.cluster import joined

    if layout is not None:
        raise ValueError(f"--format {options.format}: --ray makes files of t2d only")
    _refuse({"--shard": options.shard != WHOLE}, "--ray shares pictures out by itself")
    with joined(options.ray, options.backend, options.cores or 1) as cluster:
        return encode_folder(**given, engine=cluster)


def _refuse(given: dict[str, object], why: str) -> None:
    """Raise ValueError if one of some options is given."""
    for name, value in given.items():
        if value:
            raise ValueError(f"{name}: {why}")


def _check_stack(options: argparse.Namespace) -> None:
    """Raise ValueError unless a stack and what else is said of it fit; give it a name."""
    if options.image is not None:
        raise ValueError(f"{options.image}: --stack is given, too; expected one of them")
    is_folder = len(options.stack) == 1 and Path(options.stack[0]).is_dir()
    if options.output is None and not is_folder:
        raise ValueError("--stack: several pictures; expected -o OUT.t2d too")
    options.image = str(Path(options.stack[0]).resolve()) if is_folder else options.output
    options.stack = options.stack[0] if is_folder else options.stack


def _read(options: argparse.Namespace, linear: bool) -> Stack:
    """Return what is to be encoded, as it is fitted."""
    from taichi2dgs.storage import pictures, stacks

    if options.stack is not None:
        picture = stacks.read_stack(options.stack, linear=linear)
    else:
        picture = pictures.read_picture(options.image)
    return stacks.as_stack(picture, linear, options.mask)


def _encode_picture(options: argparse.Namespace, encoding: Encoding) -> int:
    from pipelines.film import Film
    from pipelines.watching import watched
    from taichi2dgs import runtime
    from taichi2dgs.rendering.stack import psnrs
    from taichi2dgs.storage import files

    common.layout(options)
    shared = {"--shard": options.shard != WHOLE, "--recursive": options.recursive,
              "--ray": options.ray, "--cores": options.cores,
              f"--format {options.format}": options.format != common.T2D}  # fmt: skip
    _refuse(shared, f"{options.image} is not a folder of pictures")
    is_stream = options.stack is None and files.is_stream(options.image)
    if options.output is None and is_stream:
        raise ValueError(f"{options.image}: a pipe has no name; expected -o OUT.t2d too")
    out = options.output or Path(options.image.removeprefix("sample:")).stem + ".t2d"
    if Path(out).suffix != ".t2d":
        raise ValueError(f"{out}: Gaussians are saved as .t2d")
    image = _read(options, encoding.linear)
    files.check_writable(out)
    film = None if options.film is None else Film(options.film)
    encoding = watched(encoding, every=1) if film else encoding
    watchers = [film.report] if film else []
    runtime.init(options.backend)
    if options.live:
        result, complete = _encode_live(options, out, image, encoding, watchers)
    else:
        result, complete = _fit_and_save(out, image, encoding, options.quiet, watchers)
    if result is None:
        return 130
    if film:
        print(film.write(result))
    last = result.history[-1]
    print(
        f"{out}: {len(result.gaussians)} Gaussians, PSNR {last.psnr:.2f} dB, "
        f"{last.step} iterations, {last.seconds:.1f} s, backend {runtime.current()}"
    )
    for label, psnr in psnrs(result.gaussians, image.image, image.weight).items():
        print(f"PSNR {label}: {psnr:.2f} dB")
    return 0 if complete else 130


def _encode_live(
    options: argparse.Namespace,
    out: str,
    image: Stack,
    encoding: Encoding,
    watchers: Sequence[OnReport],
) -> tuple[FitResult | None, bool]:
    """Do what `_fit_and_save` does while a page shows it; stopping it there is no interruption."""
    from pipelines.watching import shown_live, watched

    encoding = watched(encoding)
    with shown_live(options.image, image, encoding, options.port, not options.no_browser) as live:
        quiet, everyone = options.quiet, [*watchers, live.report]
        result, complete = _fit_and_save(out, image, encoding, quiet, everyone, live)
        phase = "failed" if result is None else "stopped" if live.stopped else "done"
        live.finish(phase, b"" if result is None else Path(out).read_bytes())
        live.wait_until_seen()
    return result, complete or live.stopped


def _fit_and_save(
    out: str,
    image: Stack,
    encoding: Encoding,
    quiet: bool,
    watchers: Sequence[OnReport],
    live: Live | None = None,
) -> tuple[FitResult | None, bool]:
    """Return the fit that is saved, if any is, and whether Ctrl-C did not come."""
    from pipelines.progress import FitBar
    from pipelines.watching import told
    from taichi2dgs.fitting.options import FitInterrupted
    from taichi2dgs.fitting.refine import STAGES

    result = None
    try:
        with FitBar(encoding, common.hidden(quiet)) as bar:
            result = encoding.run(image, told(bar.show, *watchers))
        hidden = common.hidden(quiet or not encoding.refine_steps(result.steps))
        with tqdm(total=STAGES, desc="refine", unit="stage", disable=hidden) as bar:
            encoding.save(out, result.gaussians, image, lambda _: bar.update(), result.steps)
        return result, True
    except KeyboardInterrupt as stop:
        result = stop.result if isinstance(stop, FitInterrupted) else result
        if result is None:
            raise
    word = "stopped" if live and live.stopped else "interrupted"
    try:
        encoding.save_unrefined(out, result.gaussians)
    except ValueError as error:
        print(f"taichi2dgs: {word}; nothing is saved: {error}", file=sys.stderr)
        return None, False
    print(f"taichi2dgs: {word}; what was there is saved", file=sys.stderr)
    return result, False
