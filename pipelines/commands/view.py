"""The command `view`."""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import webbrowser
from dataclasses import replace
from pathlib import Path

from pipelines.commands import options as common


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "shown", metavar="FILE.t2d|PICTURE", help="Gaussians; or a picture, which is encoded first"
    )
    parser.add_argument(
        "other", nargs="?", metavar="PICTURE", help="its original, or another .t2d file, beside it"
    )
    parser.add_argument(
        "--live", action="store_true", help="show the fit of a picture while it goes on"
    )
    parser.add_argument(
        "--html", metavar="OUT.html", help="write one file that shows it anywhere, and end"
    )
    common.add_page(parser)
    common.add_encoding(parser)  # of a picture
    common.add_quiet(parser)
    common.add_backend(parser)


def run(options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C, or write it as one file."""
    from taichi2dgs.storage import paths
    from taichi2dgs.viewing import page

    if options.html is not None and Path(options.html).suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{options.html}: expected a name that ends in .html")
    names = [options.shown, *filter(None, [options.other])]
    names.sort(key=page.is_gaussians, reverse=True)
    if page.is_gaussians(names[0]):
        if options.live:
            raise ValueError(f"--live: {names[0]} holds Gaussians; expected a picture to fit")
        shown = page.contents(names)
    elif len(names) > 1:
        raise ValueError(f"{names[1]}: a second picture; expected one, or a .t2d file beside it")
    elif options.live:
        return _show_live(options)
    else:
        shown = _encoded(options)
    if options.html is not None:
        whole = page.standalone(shown).encode()
        with paths.writing(options.html) as temporary:
            Path(temporary).write_bytes(whole)
        print(f"{options.html}: {len(whole):,} bytes, opens in any browser")
        return 0
    return _serve(shown, options)


def _serve(shown: dict[str, bytes], options: argparse.Namespace) -> int:
    from taichi2dgs.viewing.server import serving

    with serving(shown, options.port) as server:
        print(f"{server.url}\nCtrl-C ends it", flush=True)
        if not options.no_browser:
            webbrowser.open(server.url)
        _until_ctrl_c()
    return 0


def _until_ctrl_c() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
    print(file=sys.stderr)


def _encoded(options: argparse.Namespace) -> dict[str, bytes]:
    """Return a picture's Gaussians and itself, as they are shown."""
    from pipelines.progress import FitBar
    from taichi2dgs import runtime
    from taichi2dgs.storage import stacks
    from taichi2dgs.storage.maps import displayed
    from taichi2dgs.viewing import page

    encoding = common.encoding(options)
    image = stacks.as_stack(options.shown, encoding.linear)
    original = page.picture(displayed(image.image, image.maps), options.shown)
    runtime.init(options.backend)
    with FitBar(encoding, common.hidden(options.quiet)) as bar:
        result = encoding.run(image, bar.show)
    name = page.stem(options.shown)
    data = encoding.file_of(result.gaussians, image, name=options.shown, fitted=result.steps)
    return {f"{name}.t2d": data, f"{name}.png": original}


def _show_live(options: argparse.Namespace) -> int:
    """Fit a picture while the page shows it, and keep showing what came of it."""
    from pipelines.progress import FitBar
    from pipelines.watching import shown_live, told, watched
    from taichi2dgs import runtime
    from taichi2dgs.fitting.options import FitInterrupted
    from taichi2dgs.storage import stacks

    if options.html is not None:
        raise ValueError("--live and --html are given; expected one of them")
    encoding = watched(common.encoding(options))
    image = stacks.as_stack(options.shown, encoding.linear)
    runtime.init(options.backend)
    with shown_live(options.shown, image, encoding, options.port, not options.no_browser) as live:
        try:
            with FitBar(encoding, common.hidden(options.quiet)) as bar:
                result = encoding.run(image, told(bar.show, live.report))
        except FitInterrupted as stop:
            if not live.stopped:
                raise
            result = stop.result
        if live.stopped:  # what is there is shown, whatever its bytes
            encoding = replace(encoding, refine=0, target_bytes=None)
        data = encoding.file_of(result.gaussians, image, name=options.shown, fitted=result.steps)
        live.finish("stopped" if live.stopped else "done", data)
        print(
            f"{len(result.gaussians)} Gaussians, PSNR {result.psnr:.2f} dB, "
            f"{result.steps} iterations, {result.seconds:.1f} s\nCtrl-C ends it",
            flush=True,
        )
        _until_ctrl_c()
    return 0
