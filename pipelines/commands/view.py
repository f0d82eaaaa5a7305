"""The command `view`."""

from __future__ import annotations

import argparse
import sys
import threading
import webbrowser
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("gaussians", metavar="FILE.t2d")
    parser.add_argument(
        "other", nargs="?", metavar="PICTURE", help="its original, or another .t2d file, beside it"
    )
    parser.add_argument(
        "--html", metavar="OUT.html", help="write one file that shows it anywhere, and end"
    )
    parser.add_argument("--port", type=int, default=0, help="of the local server (any free one)")
    parser.add_argument(
        "--no-browser", action="store_true", help="print the address, and open nothing"
    )


def run(options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C, or write it as one file."""
    from pipelines import viewing
    from taichi2dgs.storage import paths

    shown = viewing.contents([options.gaussians, *filter(None, [options.other])])
    if options.html is not None:
        if Path(options.html).suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"{options.html}: expected a name that ends in .html")
        page = viewing.standalone(shown).encode()
        with paths.writing(options.html) as temporary:
            Path(temporary).write_bytes(page)
        print(f"{options.html}: {len(page):,} bytes, opens in any browser")
        return 0
    if not 0 <= options.port < 1 << 16:
        raise ValueError(f"port={options.port}; expected 0 to 65535")
    with viewing.serving(shown, options.port) as server:
        print(f"{server.url}\nCtrl-C ends it", flush=True)
        if not options.no_browser:
            webbrowser.open(server.url)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print(file=sys.stderr)
    return 0
