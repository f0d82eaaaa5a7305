"""How long the page takes to open and to draw, and what showing a fit live costs the fit.

python benchmarks/run_page.py
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import statistics
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from common import identity, measure
from playwright.sync_api import Browser, sync_playwright

import pipelines
import taichi2dgs
from pipelines.watching import REPORT_EVERY
from taichi2dgs.fitting.options import FitOptions
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.storage import files, t2d
from taichi2dgs.viewing.live import Live
from taichi2dgs.viewing.server import serving

FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader",
         "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]  # fmt: skip
# Milliseconds until a file is read, until its lists are made, and until all of it is drawn.
OPENING = """async () => {
    await page.started;
    const read = performance.now();
    while (!page.model.ready(page.stage.view)) await new Promise((done) => setTimeout(done, 2));
    const listed = performance.now();
    await page.stage.settled();
    return [read, listed, performance.now()];
}"""
DRAWING = """async () => {
    const began = performance.now();
    page.stage.redraw();
    await page.stage.settled();
    return performance.now() - began;
}"""
# The page without its panel, a pixel of the screen for each of the picture.
PLAIN = """() => {
    document.body.classList.add("wide");
    page.stage.resize();
    page.stage.zoomTo(1);
    return page.stage.settled();
}"""


@measure.script
def main() -> None:
    options = parse()
    taichi2dgs.init("cpu")
    image = files.read_image(options.image)
    start = pipelines.initialize(image, options.k)
    small = taichi2dgs.fit(image, start, steps=options.steps).gaussians
    rows: dict[str, Any] = {"load": os.getloadavg()[0]}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=FLAGS)
        rows["renderer"] = browser.version
        rows["open"] = middle([opening(browser, small) for _ in range(options.repeats)])
        for name, gaussians in (("512x512", small), ("1080x1920", tiled(small, (1080, 1920)))):
            rows[name] = [len(gaussians), *drawing(browser, gaussians, options.repeats)]
        browser.close()
    rows["live"] = cost_of_live(image, start, options.live_steps, options.repeats)
    about = measure.describe(f"{options.image}, {options.k} Gaussians", [])
    options.out.with_suffix(".json").write_text(json.dumps(about | rows, indent=1) + "\n")
    page = as_markdown(about, rows, options.k)
    options.out.with_suffix(".md").write_text(page)
    print(page)


def middle(rows: list[list[float]]) -> list[float]:
    """Return the median of each column."""
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def cpu_of_children() -> float:
    """Milliseconds of CPU that the processes which this one has started have used; 0 off Linux."""
    parents: dict[int, tuple[int, int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(") ")[2].split()
            parents[int(path.parent.name)] = int(fields[1]), int(fields[11]) + int(fields[12])

    def is_ours(process: int) -> bool:
        while process in parents:
            process = parents[process][0]
            if process == os.getpid():
                return True
        return False

    ticks = sum(used for process, (_, used) in parents.items() if is_ours(process))
    return 1000 * ticks / os.sysconf("SC_CLK_TCK") if parents else 0.0


def tiled(gaussians: Gaussians, size: tuple[int, int]) -> Gaussians:
    """Return so many copies side by side that they fill a larger picture."""
    height, width = gaussians.size
    parts = [
        gaussians.transform([[1, 0, left], [0, 1, top]], size)
        for top in range(0, size[0], height) for left in range(0, size[1], width)
    ]  # fmt: skip
    whole = parts[0].concat(*parts[1:])
    return whole[(whole.xy[:, 0] < size[1]) & (whole.xy[:, 1] < size[0])]


def opening(browser: Browser, gaussians: Gaussians) -> list[float]:
    """Milliseconds since the page was asked for, when a file was read, listed, and drawn; CPU."""
    with serving({"g.t2d": t2d.encode(gaussians)}) as server:
        tab = browser.new_page(viewport={"width": 800, "height": 512})
        before = cpu_of_children()
        tab.goto(server.url, wait_until="commit")
        while not tab.evaluate("window.page !== undefined"):  # its policy lets nothing else wait
            time.sleep(0.005)
        times = tab.evaluate(OPENING)
        used = cpu_of_children() - before
        tab.close()
    return [*times, used]


def drawing(browser: Browser, gaussians: Gaussians, repeats: int) -> list[float]:
    """Milliseconds of a whole frame at one pixel for one pixel, and of CPU."""
    height, width = gaussians.size
    with serving({"g.t2d": t2d.encode(gaussians)}) as server:
        tab = browser.new_page(viewport={"width": width, "height": height})
        tab.goto(server.url)
        tab.evaluate("page.started")
        tab.evaluate(PLAIN)
        times = []
        for _ in range(repeats):
            before = cpu_of_children()
            times.append([tab.evaluate(DRAWING), cpu_of_children() - before])
        tab.close()
    return middle(times)


def cost_of_live(image, start: Gaussians, steps: int, repeats: int) -> list[float]:
    """Seconds of a fit that nobody looks at and of one that a page follows; seconds of reading.

    The page here asks for everything as the real one does, and draws nothing.
    """
    alone, followed, reading, number = [], [], [], 0
    for _ in range(repeats):
        began = time.perf_counter()
        taichi2dgs.fit(image, start, steps=steps)
        alone.append(time.perf_counter() - began)
        live = Live("photo", steps)
        with serving({}, live=live) as server:
            base = server.url.split("?")[0]
            ended = threading.Event()
            client = threading.Thread(target=follow, args=(base, ended), daemon=True)
            client.start()
            began = time.perf_counter()
            taichi2dgs.fit(
                image, start, steps=steps, options=FitOptions(report_every=REPORT_EVERY),
                on_report=functools.partial(live.report, len(start)),
            )  # fmt: skip
            followed.append(time.perf_counter() - began)
            ended.set()
            client.join()
        reading.append(live.spent)
        number = live.known["number"]
    return [statistics.median(alone), statistics.median(followed), max(reading), number]


def follow(base: str, ended: threading.Event) -> None:
    """Ask for a fit's state and snapshots, as the page does."""
    number = 0
    while not ended.wait(0.2):
        state = json.loads(urllib.request.urlopen(base + "live/state").read())
        if state["number"] > number:
            number = state["number"]
            urllib.request.urlopen(base + "live/snapshot").read()


def as_markdown(about: dict[str, Any], rows: dict[str, Any], k: int) -> str:
    read, listed, drawn, used = rows["open"]
    alone, followed, reading, number = rows["live"]
    frames = [
        f"| a whole frame of {name}, {rows[name][0]:,} Gaussians | {rows[name][1]:,.0f} | "
        f"{rows[name][2]:,.0f} |"
        for name in ("512x512", "1080x1920")
    ]
    return "\n".join([
        "# The page, drawn in software", "",
        f"Chromium {rows['renderer']} with SwiftShader on {about['machine']}; commit "
        f"{about['commit']}; load {rows['load']:.1f} when it began. CPU is that of all processes "
        "of Chromium: on an idle machine of two cores, at least half as long passes.", "",
        f"    {about['command']}", "",
        "| what | ms | ms of CPU |", "| --- | --- | --- |",
        f"| from the address to the file read, {k:,} Gaussians of 512x512 | {read:,.0f} | |",
        f"| to its lists | {listed:,.0f} | |",
        f"| to all of it drawn, at 1:1 | {drawn:,.0f} | {used:,.0f} |",
        *frames, "",
        f"A fit of {k:,} Gaussians took {alone:.2f} s alone, and {followed:.2f} s while a client "
        f"asked for its curve and its {number} snapshots, of which reading took {reading:.3f} s.",
        "",
    ])  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", default="sample:astronaut")
    parser.add_argument("--k", type=int, default=50_000)
    parser.add_argument("--steps", type=int, default=30, help="of the fit that is shown")
    parser.add_argument("--live-steps", type=int, default=200, help="of the fit that is followed")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--out", type=Path, default=identity.RESULTS / "page")
    return parser.parse_args()


if __name__ == "__main__":
    main()
