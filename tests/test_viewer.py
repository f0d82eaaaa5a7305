"""The page in a real browser: what it draws against `render`, and what it asks of servers."""

import base64
import dataclasses
import functools
import http.server
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import scatter

from taichi2dgs import Gaussians, RenderSettings, write_image
from taichi2dgs.fitting.options import Report
from taichi2dgs.storage import t2d
from taichi2dgs.viewing import page as viewing
from taichi2dgs.viewing.live import Live
from taichi2dgs.viewing.server import serving

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
FLAGS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
]
MOST, MEAN = 2, 0.02  # differences of canvas and render in 8 bits; 1 and 0.001 seen
PIXELS = """async ([zoom, box]) => {
    const out = new Uint8Array(4 * box[2] * box[3]);
    await page.stage.render(page.model, zoom, box, (pixels, [x, y, width, height]) => {
        for (let row = 0; row < height; row++) {
            const part = pixels.subarray(4 * row * width, 4 * (row + 1) * width);
            out.set(part, 4 * ((y + row) * box[2] + x));
        }
    });
    let text = "";
    for (const octet of out) text += String.fromCharCode(octet);
    return btoa(text);
}"""


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium that draws in software."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright (extra view)")
    if CHROMIUM is None:
        pytest.skip("needs Chromium or Chrome")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def tab(browser):
    """A new tab of the browser, in which any error of the page fails the test."""
    opened = browser.new_page(viewport={"width": 900, "height": 640})
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    opened.close()
    assert not errors, errors


def until(tab, expression: str) -> None:
    """Wait until an expression is true in the page, whose policy forbids scripts of others."""
    give_up = time.monotonic() + 60
    while not tab.evaluate(expression):
        assert time.monotonic() < give_up, expression
        time.sleep(0.05)


def show(tab, shown: dict[str, bytes], folder: Path) -> None:
    """Open the page with files in it, and wait until they are read."""
    path = folder / "page.html"
    path.write_text(viewing.standalone(shown), encoding="utf-8")
    tab.goto(path.as_uri())
    tab.evaluate("page.started")
    assert tab.inner_text("#message") == ""


def drawn(tab, zoom: float, box: tuple[int, int, int, int]) -> np.ndarray:
    """What the page draws of a box (top, left, height, width) at a zoom. [H, W, 4]"""
    top, left, height, width = box
    octets = base64.b64decode(tab.evaluate(PIXELS, [zoom, [left, top, width, height]]))
    return np.frombuffer(octets, np.uint8).reshape(height, width, 4).astype(np.float64)


def expected(image: torch.Tensor) -> np.ndarray:
    """A render as the page shows it: in 8 bits, grey as RGB. [H, W, 4]"""
    whole = (255 * image.clamp(0, 1)).round().double().numpy()
    channels = whole.shape[2]
    color = whole[..., :3] if channels > 2 else whole[..., :1].repeat(3, 2)
    opaque = np.full_like(whole[..., :1], 255.0)
    return np.concatenate([color, opaque if channels % 2 else whole[..., -1:]], axis=2)


def check_equal(tab, g: Gaussians, strays: int = 0) -> None:
    """Compare the page with `render` at its size, at three times on a part, and at a quarter.

    Where the distances of two Gaussians differ by less than float32 shows, either may be the last
    that counts: `strays` pixels may differ more.
    """
    height, width = g.size
    views = (1, (0, 0, height, width)), (3, (50, 60, 90, 120)), (1 / 4, (0, 0, 24, 32))
    for zoom, box in views:
        size = (round(height * zoom), round(width * zoom))
        difference = np.abs(drawn(tab, zoom, box) - expected(g.render(size, box)))
        assert np.sum(difference.max(axis=2) > MOST) <= strays, (zoom, difference.max())
        assert difference.mean() <= MEAN


def photo_like(channels: int = 3, n: int = 1_500, size: tuple[int, int] = (96, 128)) -> Gaussians:
    """Gaussians that leave no holes: at the edge of a lone support rounding decides a pixel."""
    g = scatter(n, size, channels=channels, log_scale=(0.0, 1.8), seed=channels)
    if channels in (2, 4):
        color = g.color.clamp(0, 1)
        color[:, :-1] *= color[:, -1:]
        g = dataclasses.replace(g, color=color)
    return g


@pytest.mark.parametrize("quality", t2d.QUALITIES)
def test_the_canvas_is_what_render_makes(tab, tmp_path, quality):
    data = t2d.encode(photo_like(), quality)
    show(tab, {"g.t2d": data}, tmp_path)
    check_equal(tab, t2d.decode(data).gaussians)


def test_textures_are_drawn_as_they_wrap_around(tab, tmp_path):
    g = photo_like().replace(settings=RenderSettings(tile=True))
    g = g.replace(xy=g.xy + torch.tensor([40.0, -300.0]))
    assert float((g.render(tile=False) - g.render()).abs().max()) > 0.1
    show(tab, {"g.t2d": t2d.encode(g, "lossless")}, tmp_path)
    check_equal(tab, g, strays=3)
    assert "1,500" in tab.inner_text("#numbers") and "wraps around" in tab.inner_text("#numbers")


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_grey_and_opacity_are_drawn(tab, tmp_path, channels):
    data = t2d.encode(photo_like(channels))
    show(tab, {"g.t2d": data}, tmp_path)
    check_equal(tab, t2d.decode(data).gaussians)


@pytest.mark.parametrize(
    "settings",
    [
        RenderSettings(blend="sum"),
        RenderSettings(1),
        RenderSettings(15, 4.0, 1e-2),
        RenderSettings(32),
    ],
)
def test_every_blend_is_drawn(tab, tmp_path, settings):
    g = dataclasses.replace(photo_like(n=800), settings=settings)
    if settings.blend == "sum":
        g = dataclasses.replace(g, color=g.color * 0.05)
    twins = torch.cat([g.packed(), g.packed().roll(7, 0)])  # they tie, and their order decides
    twins[len(g) :, :5] = g.packed()[:, :5]
    g = Gaussians.from_packed(twins, g.size, settings)
    data = t2d.encode(g, "lossless")
    show(tab, {"g.t2d": data}, tmp_path)
    check_equal(tab, g, strays=2)


def test_gaussians_below_a_pixel_are_spread_over_it(tab, tmp_path):
    g = scatter(3_000, (96, 128), log_scale=(-2.0, -0.5))
    g = dataclasses.replace(g, settings=RenderSettings(blend="sum"))
    show(tab, {"g.t2d": t2d.encode(g, "lossless")}, tmp_path)
    for size in ((72, 96), (48, 64), (12, 16)):
        box = (0, 0, *size)
        difference = np.abs(drawn(tab, size[0] / 96, box) - expected(g.render(size)))
        assert difference.max() <= MOST and difference.mean() <= MEAN, size


def test_the_first_gaussians_alone_are_drawn(tab, tmp_path):
    g = photo_like(n=2_000)
    show(tab, {"g.t2d": t2d.encode(g, "lossless")}, tmp_path)
    tab.evaluate("page.model.first = 900")
    first = Gaussians.from_packed(g.packed()[:900], g.size)
    difference = np.abs(drawn(tab, 1, (0, 0, *g.size)) - expected(first.render()))
    assert (
        np.mean(difference > MOST) < 1e-3 and difference.mean() <= MEAN
    )  # holes: see `photo_like`


def test_the_page_tells_the_numbers_and_the_psnr_against_an_original(tab, tmp_path):
    g = photo_like()
    data = t2d.encode(g)
    image = (t2d.decode(data).gaussians.render().clamp(0, 1) + 0.05).clamp(0, 1)
    write_image(tmp_path / "photo.png", image)
    (tmp_path / "g.t2d").write_bytes(data)
    shown = viewing.contents([str(tmp_path / "g.t2d"), str(tmp_path / "photo.png")])
    show(tab, shown, tmp_path)
    until(tab, "/dB/.test(document.querySelector('#numbers').innerText)")
    error = 255 * (image - t2d.decode(data).gaussians.render().clamp(0, 1))
    psnr = 10 * np.log10(255**2 / float(error.square().mean()))
    numbers = tab.inner_text("#numbers").split("\n")
    assert abs(float(numbers[numbers.index("PSNR") + 1].split()[0]) - psnr) < 0.15
    assert numbers[numbers.index("Gaussians") + 1] == "1,500"
    assert numbers[numbers.index("Size") + 1].split()[::2] == ["128", "96"]


def test_keys_pointer_and_controls_change_what_is_seen(tab, tmp_path):
    g = photo_like()
    (tmp_path / "g.t2d").write_bytes(t2d.encode(g))
    write_image(tmp_path / "photo.png", g.render())
    names = [str(tmp_path / "g.t2d"), str(tmp_path / "photo.png")]
    show(tab, viewing.contents(names), tmp_path)
    seen = {tab.screenshot()}

    def look() -> None:
        tab.evaluate("page.stage.settled()")
        picture = tab.screenshot()
        assert picture not in seen
        seen.add(picture)

    for key in ("1", "+", "ArrowLeft", "e", "c", "h", "v", "d", "["):
        tab.keyboard.press(key)
        look()
    tab.mouse.move(300, 300)
    tab.mouse.wheel(0, -300)
    look()
    tab.evaluate("page.stage.zoomTo(1000)")
    assert tab.evaluate("page.stage.view.zoom") == 64
    tab.keyboard.press("0")
    look()
    with tab.expect_download() as download:
        tab.keyboard.press("s")
    assert download.value.suggested_filename == "g.png"


def test_400_000_gaussians_on_3840x2160_are_drawn(tab, tmp_path):
    g = scatter(400_000, (2160, 3840), log_scale=(0.0, 1.4), margin=0)
    tab.set_viewport_size({"width": 480, "height": 240})
    data = t2d.encode(g)
    show(tab, {"g.t2d": data}, tmp_path)
    tab.evaluate("page.stage.settled()")
    tab.evaluate("page.stage.zoomTo(1)")
    tab.evaluate("page.stage.settled()")
    assert not tab.evaluate("page.stage.lost") and tab.inner_text("#message") == ""
    box = (1000, 2000, 64, 64)
    render = expected(t2d.decode(data).gaussians.render(crop=box))
    difference = np.abs(drawn(tab, 1, box) - render)
    assert np.mean(difference > MOST) < 1e-2  # holes: see `photo_like`


def test_a_damaged_file_is_one_sentence_and_the_next_one_opens(tab, tmp_path):
    whole = t2d.encode(photo_like(n=50))
    show(tab, {"g.t2d": whole}, tmp_path)
    for name, data in (("bad.t2d", whole[:-9]), ("no.t2d", b"no"), ("photo.png", b"\x89PNG")):
        (tmp_path / name).write_bytes(data)
        tab.set_input_files("#files", tmp_path / name)
        until(tab, f"document.querySelector('#message').innerText.includes('{name}')")
    (tmp_path / "good.t2d").write_bytes(whole)
    tab.set_input_files("#files", tmp_path / "good.t2d")
    until(tab, "document.querySelector('#name').innerText === 'good.t2d'")
    assert tab.inner_text("#message") == ""


def test_the_page_as_one_file_asks_no_server_for_anything(browser, tmp_path):
    context = browser.new_context(offline=True)
    opened, asked = context.new_page(), []
    opened.on("request", lambda request: asked.append(request.url))
    show(opened, {"g.t2d": t2d.encode(photo_like(n=50))}, tmp_path)
    opened.evaluate("page.stage.settled()")
    context.close()
    far = [url for url in asked if not url.startswith(("file:", "blob:", "data:"))]
    assert asked and not far


def test_the_server_shows_a_file(tab, tmp_path):
    with serving({"a b#?é.t2d": t2d.encode(photo_like(n=50))}) as server:
        tab.goto(server.url)
        tab.evaluate("page.started")
        assert tab.inner_text("#message") == "" and tab.inner_text("#name") == "a b#?é.t2d"


def test_a_fit_is_followed_and_ended_from_the_page(tab, tmp_path):
    fits = [photo_like(n=400), dataclasses.replace(photo_like(n=700), size=(96, 128))]
    live = Live("photo", steps=40)
    image = viewing.picture(fits[1].render().clamp(0, 1), "photo")
    with serving({"photo.png": image}, live=live) as server:
        tab.goto(server.url)
        until(tab, "page.stage.shown")  # the original, until there are Gaussians
        for step, g in enumerate(fits):
            live.report(len(g), Report(20 * step, 9.0 * step, 20.0 + 9 * step, lambda g=g: g))
            until(tab, f"page.model?.k === {len(g)}")
            assert tab.inner_text("#live-psnr") == f"{20 + 9 * step}.00 dB"
            box = (0, 0, *g.size)
            difference = np.abs(drawn(tab, 1, box) - expected(g.render()))
            assert difference.max() <= MOST and difference.mean() <= MEAN
        assert "step 20" in tab.inner_text("#live-facts")
        assert tab.evaluate("document.querySelectorAll('#live-curve .curve').length") == 1
        tab.click("#live-stop")
        give_up = time.monotonic() + 10
        while not live.stopping and time.monotonic() < give_up:
            time.sleep(0.02)
        with pytest.raises(KeyboardInterrupt):
            live.report(700, Report(30, 15.0, 30.0, lambda: fits[1]))
        data = t2d.encode(fits[1])
        live.finish("stopped", data)
        until(tab, "!document.querySelector('#live-save').hidden")
        assert tab.inner_text("#live-phase") == "Stopped" and live.seen.is_set()
        until(tab, "page.model.preset === 'high'")
        check_equal(tab, t2d.decode(data).gaussians)
        with tab.expect_download() as download:
            tab.click("#live-save")
        assert Path(download.value.path()).read_bytes() == data
        assert download.value.suggested_filename == "photo.t2d"
        tab.click("#live-close")
        assert not tab.is_visible("#live")


def test_a_notebooks_frame_shows_the_page(tab, tmp_path):
    g = photo_like(n=300)
    shown = g.show(g.render().clamp(0, 1), height=600)._repr_html_()
    (tmp_path / "cell.html").write_text(f"<!doctype html><body>{shown}</body>", encoding="utf-8")
    tab.goto((tmp_path / "cell.html").as_uri())
    until(tab, "document.querySelector('iframe') !== null")
    frame = tab.frames[1]
    frame.evaluate("page.started")
    assert frame.inner_text("#message") == "" and frame.inner_text("#facts")[:3] == "300"
    frame.evaluate("page.stage.settled()")
    until(frame, "/dB/.test(document.querySelector('#numbers').innerText)")


def test_the_first_section_of_a_file_is_shown_before_the_rest_has_come(tab):
    data = t2d.encode(photo_like(), "high", True)
    shown = threading.Event()

    class Slow(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/g.t2d":
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            shown.wait(60)
            self.wfile.write(data[len(data) // 2 :])

        def log_message(self, *_: object) -> None:
            """Keep the terminal quiet."""

    handler = functools.partial(Slow, directory=viewing.folder())
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tab.goto(f"http://127.0.0.1:{server.server_port}/index.html?file=g.t2d")
        until(tab, "window.page?.model?.k === 375")
        shown.set()
        until(tab, "window.page.model.k === 1500")
        server.shutdown()
    check_equal(tab, t2d.decode(data).gaussians)
