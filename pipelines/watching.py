"""A page that follows a fit, served while the fit goes on."""

from __future__ import annotations

import contextlib
import webbrowser
from collections.abc import Iterator
from dataclasses import replace

from pipelines.encoding import Encoding
from pipelines.search import OnReport
from taichi2dgs.fitting.options import Report
from taichi2dgs.storage.maps import Stack, displayed
from taichi2dgs.storage.paths import one_line
from taichi2dgs.viewing import page
from taichi2dgs.viewing.live import Live
from taichi2dgs.viewing.server import serving

REPORT_EVERY = 10  # steps: a point of the curve, and now and then a snapshot


def watched(encoding: Encoding, every: int = REPORT_EVERY) -> Encoding:
    """Return how pictures are encoded, with reports for those who look on."""
    options = encoding.options
    return replace(encoding, options=replace(options, report_every=options.report_every or every))


def told(*watchers: OnReport) -> OnReport:
    """Return one function that hands each report on to all watchers."""

    def tell(k: int, report: Report) -> None:
        for watcher in watchers:
            watcher(k, report)

    return tell


@contextlib.contextmanager
def shown_live(
    name: str, image: Stack, encoding: Encoding, port: int, browser: bool
) -> Iterator[Live]:
    """Serve a page that follows the fit of a picture, and yield what it is to be told.

    Args:
        name: of the picture.
        image: the picture.
        encoding: how it is fitted.
        port: of the server, any free one if 0.
        browser: open a browser.

    Raises:
        ValueError: the picture has more channels than a page shows, or the port is taken.
    """
    seen = displayed(image.image, image.maps)
    original = {f"{page.stem(name)}.png": page.picture(seen, name)}
    live = Live(page.stem(name), encoding.steps, encoding.seconds)
    with serving(original, port, live) as server:
        print(server.url, flush=True)
        if browser:
            webbrowser.open(server.url)
        try:
            yield live
        except BaseException as error:
            live.finish("failed", message=one_line(error) if isinstance(error, Exception) else "")
            live.wait_until_seen(1.0)
            raise
