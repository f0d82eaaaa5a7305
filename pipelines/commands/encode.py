"""The command `encode`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from pipelines.commands import options as common
from pipelines.defaults import AUTO, QUALITY, REFINE, REFINED, SECONDS, START, WHOLE, K
from pipelines.starts.names import STARTS
from taichi2dgs.settings import QUALITIES

if TYPE_CHECKING:  # what takes seconds to import is imported where it runs
    from torch import Tensor

    from pipelines.encoding import Encoding
    from taichi2dgs.fitting.options import FitResult

SAMPLE = "sample:astronaut"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "image", nargs="?", default=SAMPLE, help=f"a picture, or a folder of them ({SAMPLE})"
    )
    count = parser.add_mutually_exclusive_group()
    count.add_argument(
        "-k", type=common.count, help=f"number of Gaussians ({K}), or {AUTO}, by detail"
    )
    count.add_argument("--target-psnr", type=float, metavar="DB", help="find the k that ends there")
    count.add_argument("--target-bytes", type=int, metavar="N", help="find the k of such a file")
    parser.add_argument("--quality", default=QUALITY, help=f"{', '.join(QUALITIES)} ({QUALITY})")
    parser.add_argument(
        "--refine",
        type=int,
        metavar="STEPS",
        help=f"after the fit, while rounding ({REFINE} for {' and '.join(REFINED)}, else 0)",
    )
    parser.add_argument(
        "--progressive", action="store_true", help="the first quarter of a file shows the picture"
    )
    parser.add_argument("--seconds", type=float, help=f"budget of a fit in seconds ({SECONDS:g})")
    parser.add_argument("--steps", type=int, help="budget in iterations")
    parser.add_argument(
        "--start", "--init", default=START, choices=STARTS, help=f"what a fit begins from ({START})"
    )
    parser.add_argument("--weights", metavar="RUN", help="networks from a training of your own")
    parser.add_argument("--seed", type=int, default=0, help="seed of the start (0)")
    parser.add_argument("--config", metavar="YAML", help="fit options: a file, or the shipped adam")
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
        "--recursive", action="store_true", help="pictures in subfolders of a folder, too"
    )
    common.add_quiet(parser)
    common.add_backend(parser)


def run(options: argparse.Namespace) -> int:
    """Encode a picture, or a folder of them."""
    from pipelines import configuration
    from pipelines.encoding import Encoding

    encoding = Encoding(
        k=options.k,
        target_psnr=options.target_psnr,
        target_bytes=options.target_bytes,
        quality=options.quality,
        refine=options.refine,
        progressive=options.progressive,
        steps=options.steps,
        seconds=options.seconds,
        start=options.start,
        seed=options.seed,
        weights=options.weights,
        options=configuration.fit_options(options.config),
    )
    if Path(options.image).is_dir():
        return _encode_folder(options, encoding)
    return _encode_picture(options, encoding)


def _encode_folder(options: argparse.Namespace, encoding: Encoding) -> int:
    from pipelines.folder import encode_folder
    from taichi2dgs import runtime

    if options.output is None:
        raise ValueError(f"{options.image} is a folder; expected --out DIR too")
    runtime.init(options.backend)
    return encode_folder(
        Path(options.image),
        Path(options.output),
        encoding,
        options.shard,
        common.hidden(options.quiet),
        options.recursive,
    )


def _encode_picture(options: argparse.Namespace, encoding: Encoding) -> int:
    from taichi2dgs import runtime
    from taichi2dgs.storage import files

    for name, given in (("--shard", options.shard != WHOLE), ("--recursive", options.recursive)):
        if given:
            raise ValueError(f"{name}: {options.image} is not a folder of pictures")
    if options.output is None and files.is_stream(options.image):
        raise ValueError(f"{options.image}: a pipe has no name; expected -o OUT.t2d too")
    out = options.output or Path(options.image.removeprefix("sample:")).stem + ".t2d"
    if Path(out).suffix != ".t2d":
        raise ValueError(f"{out}: Gaussians are saved as .t2d")
    image = files.read_image(options.image)
    files.check_writable(out)
    runtime.init(options.backend)
    result, complete = _fit_and_save(out, image, encoding, options.quiet)
    if result is None:
        return 130
    last = result.history[-1]
    print(
        f"{out}: {len(result.gaussians)} Gaussians, PSNR {last.psnr:.2f} dB, "
        f"{last.step} iterations, {last.seconds:.1f} s, backend {runtime.current()}"
    )
    return 0 if complete else 130


def _fit_and_save(
    out: str, image: Tensor, encoding: Encoding, quiet: bool
) -> tuple[FitResult | None, bool]:
    """Return the fit that is saved, if any is, and whether Ctrl-C did not come."""
    from pipelines.progress import FitBar
    from taichi2dgs.fitting.options import FitInterrupted
    from taichi2dgs.fitting.refine import STAGES

    result = None
    try:
        with FitBar(encoding, common.hidden(quiet)) as bar:
            result = encoding.run(image, bar.show)
        hidden = common.hidden(quiet or not encoding.refine_steps)
        with tqdm(total=STAGES, desc="refine", unit="stage", disable=hidden) as bar:
            encoding.save(out, result.gaussians, image, lambda _: bar.update())
        return result, True
    except KeyboardInterrupt as stop:
        result = stop.result if isinstance(stop, FitInterrupted) else result
        if result is None:
            raise
    try:
        encoding.save_unrefined(out, result.gaussians)
    except ValueError as error:
        print(f"taichi2dgs: interrupted; nothing is saved: {error}", file=sys.stderr)
        return None, False
    print("taichi2dgs: interrupted; what was there is saved", file=sys.stderr)
    return result, False
