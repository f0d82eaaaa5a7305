"""Drawing: on axes of matplotlib, as files, in notebooks; films of a fit."""

import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from conftest import scatter
from PIL import Image

from pipelines import cli, film
from taichi2dgs import Gaussians, draw, metrics, read_image, write_image
from taichi2dgs.exchange import splats, svg
from taichi2dgs.fitting.options import FitResult, Report
from taichi2dgs.viewing import notebook

pytest.importorskip("matplotlib", reason="needs the extra 'plot'")
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


@pytest.fixture
def axes():
    """Axes that fill a figure of 500x400 pixels."""
    return FigureCanvasAgg(Figure(figsize=(5, 4), dpi=100)).figure.add_axes((0, 0, 1, 1))


def pixels_of(figure: Figure) -> np.ndarray:
    """[H, W, 3]"""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]


ELLIPSE = Gaussians(
    xy=torch.tensor([[20.0, 24.0]]), log_scale=torch.tensor([[10.0, 2.0]]).log(),
    theta=torch.tensor([0.5]), color=torch.tensor([[1.0, 0.0, 0.0]]), size=(40, 50),
)  # fmt: skip


def test_ellipses_lie_where_gaussians_do(axes):
    draw.ellipses(ELLIPSE, axes, filled=True)
    pixels = pixels_of(axes.figure)

    def at(x: float, y: float) -> list[int]:
        return pixels[round(10 * y), round(10 * x)].tolist()

    along, down = 8 * math.cos(0.5), 8 * math.sin(0.5)
    assert at(20, 24) == at(20 + along, 24 + down) == at(20 - along, 24 - down) == [255, 0, 0]
    assert at(20 + along, 24 - down) == at(20 - along, 24 + down) == [255, 255, 255]


def test_outlines_leave_what_is_behind_them(axes):
    behind = torch.zeros(40, 50, 3)
    behind[..., 2] = 1
    draw.ellipses(ELLIPSE, axes, image=behind, deviations=0.5)
    pixels = pixels_of(axes.figure)
    assert pixels[240, 200].tolist() == [0, 0, 76]  # dimmed
    end = 240 + 50 * math.sin(0.5), 200 + 50 * math.cos(0.5)
    around = pixels[round(end[0]) - 3 : round(end[0]) + 4, round(end[1]) - 3 : round(end[1]) + 4]
    assert around[..., 0].max() > 100  # half a deviation of 10 pixels away


def test_centres_are_dots_and_a_heatmap_is_bright_where_they_are(axes):
    g = scatter(400, (40, 50), margin=0)
    g = g.replace(xy=g.xy * torch.tensor([0.5, 1.0]))  # in the left half
    draw.heatmap(g, axes, strength=1.0)
    pixels = pixels_of(axes.figure).astype(float).sum(2)
    assert pixels[:, :200].mean() > pixels[:, 300:].mean() + 150
    axes.clear()
    draw.centres(ELLIPSE, axes, size=40)
    pixels = pixels_of(axes.figure)
    assert pixels[240, 200].tolist() == [217, 0, 0] and pixels[240, 260].tolist() == [255] * 3


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_all_channels_are_drawn(axes, channels):
    g = scatter(30, (40, 50), channels=channels)
    for function in (draw.ellipses, draw.centres, draw.heatmap):
        function(g, axes, image=torch.rand(40, 50, channels))


def test_a_fit_draws_its_curve(axes, fitted):
    assert fitted.plot(axes) is axes
    (line,) = axes.lines
    assert line.get_ydata()[-1] == fitted.psnr and line.get_xdata()[0] >= 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"axes": 3}, "axes=3"), ({"image": torch.rand(3, 4, 3)}, "image has shape"),
        ({"deviations": 0}, "deviations=0"), ({"gaussians": None}, "gaussians is a NoneType"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(axes, change, message):
    with pytest.raises(ValueError, match=message):
        draw.ellipses(**({"gaussians": ELLIPSE, "axes": axes} | change))


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(draw.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"install the extra, taichi2dgs\[plot\]"):
        draw.centres(ELLIPSE)


def painted(text: str, size: tuple[int, int]) -> np.ndarray:
    """What a drawing of ours shows, painted by what its elements say. [H, W, 3]"""
    space = "{http://www.w3.org/2000/svg}"
    root = ET.fromstring(text)
    colors = {}
    for gradient in root.iter(f"{space}radialGradient"):
        stops = list(gradient)
        ink = stops[0].get("stop-color", "")
        at = [float(stop.get("offset", "nan")) for stop in stops]
        left = [float(stop.get("stop-opacity", "nan")) for stop in stops]
        colors[gradient.get("id")] = [int(ink[i : i + 2], 16) / 255 for i in (1, 3, 5)], at, left
    out = np.zeros((*size, 3))
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    for ellipse in root.iter(f"{space}ellipse"):
        place = re.findall(r"-?[\d.]+", ellipse.get("transform", ""))
        cx, cy, turn = (float(number) for number in place)
        turn = math.radians(turn)
        rx, ry = float(ellipse.get("rx", "")), float(ellipse.get("ry", ""))
        along = (math.cos(turn) * (x - cx) + math.sin(turn) * (y - cy)) / rx
        across = (math.cos(turn) * (y - cy) - math.sin(turn) * (x - cx)) / ry
        ink, at, left = colors[ellipse.get("fill", "")[5:-1]]
        alpha = np.interp(np.hypot(along, across), at, left)[..., None]
        alpha = alpha * float(ellipse.get("opacity", "1"))
        out = out * (1 - alpha) + alpha * np.array(ink)
    return out


def test_a_drawing_of_gradients_comes_near_to_the_render(fitted):
    g = fitted.gaussians
    found = splats.splats_of(g)
    text = svg.drawing(found)
    seen = torch.from_numpy(painted(text, g.size)).float()
    assert metrics.psnr(seen, g.render().clamp(0, 1)) > found.psnr - 1.5 > 26
    assert "Approximate" in text and len(re.findall("<ellipse", text)) == len(found.xy)


def test_the_command_draws_pictures_and_drawings(tmp_path, fitted, photograph, capsys):
    path, picture = str(tmp_path / "g.t2d"), str(tmp_path / "photo.png")
    fitted.gaussians.save(path)
    write_image(picture, photograph)
    for kind in ("ellipses", "filled", "centres", "heatmap"):
        out = tmp_path / f"{kind}.png"
        more = ["--over", picture] if kind == "heatmap" else []
        assert cli.main(["draw", path, "-o", str(out), "--kind", kind, "--scale", "2", *more]) == 0
        assert read_image(out).shape == (192, 256, 3) and "192x256" in capsys.readouterr().out
    filled = read_image(tmp_path / "filled.png").reshape(96, 2, 128, 2, 3).mean((1, 3))
    near = metrics.psnr(filled, photograph)  # as ellipses lie where the picture has them
    assert near > max(metrics.psnr(filled.flip(axis), photograph) for axis in (0, 1)) + 0.5
    assert cli.main(["draw", path, "-o", str(tmp_path / "g.svg")]) == 0
    assert "approximate" in capsys.readouterr().out
    ET.parse(tmp_path / "g.svg")
    for arguments, message in (
        (["-o", "g.gif"], "g.gif: pictures cannot be written"),
        (["-o", "g.svg", "--kind", "centres"], "are for pictures"),
        (["-o", "g.png", "--scale", "0"], "scale=0"),
        (["-o", "g.png", "--over", "no.png"], "no.png: no such file"),
    ):
        assert cli.main(["draw", path, *arguments]) == 2
        assert message in capsys.readouterr().err


def test_a_cell_shows_gaussians_as_a_picture_and_a_line(fitted):
    shown = fitted.gaussians._repr_html_()
    assert "2,000 Gaussians, 96x128, 3 channels, nearest 10" in shown
    assert shown.count("<img") == 1 and "data:image/png;base64," in shown
    many = scatter(9, (2000, 40), channels=5)
    assert "9 Gaussians, 2000x40" in many._repr_html_()


def test_a_cell_shows_a_fit_as_its_curve(fitted):
    shown = fitted._repr_html_()
    root = ET.fromstring(shown[: shown.index("<div>")])
    paths = [node.get("d", "") for node in root if node.get("stroke") == notebook.INK]
    assert len(paths) == 1 and paths[0].count("L") == len(fitted.history) - 1
    assert f"PSNR {fitted.psnr:.2f} dB after 60 steps" in shown
    perfect = FitResult(fitted.gaussians, [Report(0, 0.0, 20.0), Report(1, 1.0, math.inf)])
    assert "nan" not in perfect._repr_html_() and "inf" not in notebook.curve([(0, math.inf)])


def test_a_cell_shows_the_page_beside_an_original(fitted, photograph):
    shown = fitted.gaussians.show(photograph, height=500)._repr_html_()
    assert shown.startswith("<iframe srcdoc=") and "height:500px" in shown
    assert "original.png" in shown and shown.count("<") == 2  # all else is escaped
    assert "other.t2d" in fitted.gaussians.show(fitted.gaussians)._repr_html_()
    for arguments, message in (
        ((photograph[:40],), "other has size"), ((None, 3), "height=3"), ((3,), "image is a int"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            other, *height = arguments
            fitted.gaussians.show(other, **({"height": height[0]} if height else {}))


def fit_of(psnrs: list[float], size: tuple[int, int] = (21, 30)) -> FitResult:
    """A fit whose renders become brighter."""
    reports = []
    for step, psnr in enumerate(psnrs):
        g = scatter(60, size, log_scale=(1.0, 1.5), margin=0)
        g = g.replace(color=torch.full((60, 3), min(1.0, psnr / 60)))
        reports.append(Report(step, step / 10, psnr, lambda g=g: g))
    return FitResult(reports[-1].gaussians, reports)


PSNRS = [*np.linspace(20, 35, 30), *np.linspace(35, 36, 300)]


@pytest.mark.parametrize("ending", ["gif", "webp", "mp4"])
def test_a_film_goes_by_equal_steps_of_psnr(tmp_path, ending):
    if ending == "mp4":
        pytest.importorskip("av", reason="needs the extra 'film'")
    import imageio.v3 as iio

    path, result = tmp_path / f"fit.{ending}", fit_of(PSNRS)
    made = film.Film(str(path))
    for report in result.history:
        made.report(60, report)
    assert len(made.kept) <= 2 * film.FRAMES
    said = made.write(result)
    assert "from 20.00 to 36.00 dB" in said
    plugin = "pyav" if ending == "mp4" else "pillow"
    frames = np.stack(list(iio.imiter(path, plugin=plugin)))
    bright = frames[:, 5:15, 5:25].mean((1, 2, 3)) / 255 * 60
    height, width = frames.shape[1:3]
    assert (height, width) == ((22, 30) if ending == "mp4" else (21, 30))
    assert bright[0] == pytest.approx(20, abs=1.5) and bright[-1] == pytest.approx(36, abs=1.5)
    shown = bright[: film.FRAMES - 1]
    least = 12 if ending == "webp" else 25  # it puts frames together that are nearly the same
    assert len(shown) >= least and np.abs(np.diff(shown)).max() < 2.2  # steps of 0.4 to 0.6 dB
    if ending == "gif":
        with Image.open(path) as whole:
            assert whole.info["loop"] == 0 and whole.info["duration"] == 80
            whole.seek(whole.n_frames - 1)
            assert whole.info["duration"] == 1500


def test_which_frames_are_shown():
    assert film.chosen([20, 21, 22, 29], 30, 3) == [0, 2, 3]
    assert film.chosen([], 30, 3) == []
    assert film.chosen([20.0], 30, 5) == [0]


def test_a_search_films_its_last_fit(tmp_path):
    made = film.Film(str(tmp_path / "a.gif"))
    for _ in range(2):
        for report in fit_of([20, 25, 30]).history:
            made.report(60, report)
    assert [psnr for psnr, _ in made.kept] == [20, 25, 30]


def test_a_film_that_cannot_be_written_is_refused_before_the_fit(tmp_path, monkeypatch, capsys):
    write_image(tmp_path / "a.png", torch.rand(20, 20, 3))
    monkeypatch.setattr(film.importlib.util, "find_spec", lambda name: None)
    for out, message in (
        ("a.mp4", "a.mp4: mp4 needs the package av; install the extra, taichi2dgs[film]"),
        ("a.avi", "a.avi: films cannot be written as .avi"),
        ("no/a.gif", "no/a.gif: cannot be written"),
    ):
        command = ["encode", str(tmp_path / "a.png"), "-o", str(tmp_path / "a.t2d")]
        assert cli.main([*command, "--film", out]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "a.t2d").exists()


def test_the_command_films_a_fit(tmp_path, photograph, capsys):
    write_image(tmp_path / "a.png", photograph[:24, :30])
    out = tmp_path / "fit.gif"
    command = ["encode", str(tmp_path / "a.png"), "-o", str(tmp_path / "a.t2d"), "-k", "60",
               "--steps", "20", "--start", "random", "-q", "--film", str(out)]  # fmt: skip
    assert cli.main(command) == 0
    assert re.search(r"fit\.gif: \d+ frames from [\d.]+ to [\d.]+ dB", capsys.readouterr().out)
    with Image.open(out) as whole:
        assert whole.size == (30, 24) and whole.n_frames > 5
