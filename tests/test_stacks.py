"""Several maps in one set of Gaussians: read, fitted, saved, rendered one by one."""

import base64
import dataclasses
import json

import numpy as np
import pytest
import torch
from conftest import DATA, scatter
from PIL import Image

import pipelines
import taichi2dgs
from pipelines import cli
from taichi2dgs import Map, draw, metrics
from taichi2dgs.fitting.options import Report
from taichi2dgs.storage import files, maps, stacks
from taichi2dgs.viewing import page
from taichi2dgs.viewing.live import Live


@pytest.fixture
def material(tmp_path, photograph):
    """A folder with colours and normals of 8 bits, and heights of 16, all of 48x56 pixels."""
    folder = tmp_path / "material"
    folder.mkdir()
    part = photograph[:48, :56]
    files.write_image(folder / "color.png", part)
    files.write_image(folder / "height.png", part.mean(2, keepdim=True), bits=16)
    files.write_image(folder / "Normal.png", 0.5 + 0.5 * (part - part.flip(1)))
    return folder


KINDS = [("color", 3, "srgb", 8), ("Normal", 3, "data", 8), ("height", 1, "data", 16)]


def kinds(stack) -> list[tuple]:
    return [(one.name, one.channels, one.kind, one.bits) for one in stack.maps]


def test_a_folder_is_read_as_one_picture_colours_first(material):
    stack = taichi2dgs.read_stack(material)
    assert kinds(stack) == KINDS and stack.image.shape == (48, 56, 7)
    assert torch.equal(stack.image[..., 6:], taichi2dgs.read_image(material / "height.png"))
    paths = [material / name for name in ("height.png", "Normal.png", "color.png")]
    assert torch.equal(taichi2dgs.read_stack(paths).image, stack.image)
    by_name = {path.stem: taichi2dgs.read_image(path) for path in reversed(paths)}
    assert torch.equal(taichi2dgs.read_stack(by_name).image, stack.image)


def test_numbers_are_taken_as_they_are_whatever_their_profile_says(tmp_path):
    from test_color import ADOBE_PROFILE

    picture = Image.new("RGB", (4, 4), (200, 80, 60))
    for name in ("normal", "albedo"):
        picture.save(tmp_path / f"{name}.png", icc_profile=ADOBE_PROFILE)
    picture.putalpha(100)
    picture.save(tmp_path / "mask.png")
    Image.new("L", (4, 4), 100).save(tmp_path / "rough.png", icc_profile=ADOBE_PROFILE)
    stack = taichi2dgs.read_stack(tmp_path)
    parts = {one.name: part[0, 0] * 255 for one, part in maps.split(stack.image, stack.maps)}
    assert parts["normal"].round().tolist() == [200, 80, 60]
    assert parts["albedo"].round().tolist() != [200, 80, 60]
    assert parts["mask"].round().tolist() == [200, 80, 60, 100]  # not multiplied by the last
    assert parts["rough"].round().tolist() == [100]


def test_linear_light_is_for_colours_only(material):
    stack = taichi2dgs.read_stack(material, linear=True)
    plain = taichi2dgs.read_stack(material)
    assert [one.kind for one in stack.maps] == ["linear", "data", "data"]
    assert torch.equal(stack.image[..., 3:], plain.image[..., 3:])
    assert stack.image[..., :3].mean() < plain.image[..., :3].mean()


def test_a_stack_is_fitted_saved_and_rendered_map_by_map(material, tmp_path):
    stack = taichi2dgs.read_stack(material)
    g = taichi2dgs.encode(stack, k=400, steps=30)
    assert g.maps == stack.maps and g.channels == 7
    g.save(tmp_path / "a.t2d", "high", image=stack, refine=8)
    loaded = taichi2dgs.load(tmp_path / "a.t2d")
    found = taichi2dgs.render_stack(loaded)
    assert list(found) == ["color", "Normal", "height"]
    for one, part in maps.split(stack.image, stack.maps):
        assert found[one.name].shape == part.shape
        assert metrics.psnr(found[one.name], part) > 22  # 26 was seen
    small = taichi2dgs.render_stack(loaded, (12, 14))
    assert small["height"].shape == (12, 14, 1)
    plain = loaded.replace(maps=())
    assert torch.equal(taichi2dgs.render_stack(plain)[""], loaded.render())


def test_renders_are_the_numbers_that_maps_stand_for():
    g = dataclasses.replace(
        scatter(200, (20, 30), channels=2, margin=0),
        maps=(Map("height", 1, "data", 32, -5.0, 20.0), Map("light", 1, "pq", 32, 0, 50.0)),
    )
    found, stored = taichi2dgs.render_stack(g), g.render()
    torch.testing.assert_close(found["height"], 25 * stored[..., :1] - 5)
    torch.testing.assert_close(found["light"], g.maps[1].light(stored[..., 1:]))


def test_sixteen_channels_are_the_most(tmp_path):
    for number in range(6):
        files.write_image(tmp_path / f"c{number}.png", torch.rand(4, 5, 3))
    with pytest.raises(ValueError, match=r"has 18 channels \(c0 3, .*\); expected at most 16"):
        taichi2dgs.read_stack(tmp_path)
    (tmp_path / "c5.png").unlink()
    assert taichi2dgs.read_stack(tmp_path).image.shape == (4, 5, 15)


def test_bad_stacks_are_named_in_one_line(material, tmp_path):
    def refused(source) -> str:
        with pytest.raises(ValueError) as caught:
            taichi2dgs.read_stack(source)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    color = material / "color.png"
    files.write_image(tmp_path / "small.png", torch.rand(4, 5, 1))
    wrong = refused([color, tmp_path / "small.png"])
    assert wrong == f"{tmp_path / 'small.png'}: 4x5 pixels; expected 48x56, as {color} has"
    assert refused([color, material / "absent.png"]).startswith(
        f"{material / 'absent.png'}: no such"
    )
    files.write_image(tmp_path / "COLOR.png", torch.rand(4, 5, 1))
    assert f"{tmp_path / 'COLOR.png'}: has the name of {color}" in refused(
        [color, tmp_path / "COLOR.png"]
    )
    (material / "rough.png").write_bytes(b"no picture")
    assert refused(material).startswith(f"{material / 'rough.png'}: not a readable picture")
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path / "empty") == f"{tmp_path / 'empty'}: no pictures there"
    assert refused(color) == f"{color}: no such folder; expected one of pictures, or their paths"
    assert refused({"a/b": torch.rand(4, 5, 1)}).startswith("source['a/b']: name='a/b'")
    assert "expected one map of 1 to 4" in refused({"a": torch.rand(4, 5, 9)})
    assert refused([]).startswith("source=[]") and refused(3).startswith("source=3")


def test_a_fit_takes_the_light_of_a_file_that_its_gaussians_have(material):
    color = material / "color.png"
    stack = stacks.as_stack(color, linear=True)
    start = pipelines.initialize(stack, 100, "gradient")
    assert start.maps == stack.maps
    by_stack, by_path = (taichi2dgs.fit(image, start, steps=2) for image in (stack, color))
    assert torch.equal(by_stack.gaussians.packed(), by_path.gaussians.packed())
    assert by_path.gaussians.maps == stack.maps
    whole = taichi2dgs.read_stack(material)
    mapped = dataclasses.replace(scatter(9, (48, 56), channels=7), maps=tuple(whole.maps[::-1]))
    stored = stacks.stored_as(str(material), mapped.maps)
    assert torch.equal(stored[..., :1], whole.image[..., 6:])
    with pytest.raises(ValueError, match=r"has the maps color, Normal, height; expected a, b"):
        stacks.stored_as(str(material), (Map("a"), Map("b")))


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """The command line in the folder of a test: returns its code, and the lines that it writes."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments) -> tuple[int, list[str]]:
        code = cli.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, (said.err if code else said.out).splitlines()

    return run


def test_the_command_line_encodes_and_renders_stacks(material, tmp_path, command):
    names = [name for name, *_ in KINDS]
    code, lines = command("encode", "--stack", material, "-k", 300, "--steps", 20, "-q")
    assert code == 0 and lines[0].startswith("material.t2d: 300 Gaussians, PSNR ")
    assert [line.split(":")[0] for line in lines[1:]] == [f"PSNR of {name}" for name in names]
    assert command("render", "material.t2d", "-o", "out")[0] == 0
    assert sorted(path.stem for path in (tmp_path / "out").glob("*.png")) == sorted(names)
    rendered = taichi2dgs.load(tmp_path / "material.t2d").render()
    back = taichi2dgs.read_image(tmp_path / "out/height.png")  # 16 bits, as it came
    assert (back - rendered[..., 6:].clamp(0, 1)).abs().max() * 65535 < 0.51
    one = ("render", "material.t2d", "--map", "height", "-o", "h.png", "--bits", 8)
    assert command(*one)[0] == 0
    assert np.asarray(Image.open(tmp_path / "h.png")).dtype == np.uint8
    known = json.loads(command("info", "material.t2d", "--image", material, "--json")[1][0])
    assert [one["name"] for one in known["maps"]] == names
    assert list(known["psnrs"]) == [f"of {name}" for name in names]
    told = command("info", "material.t2d")[1]
    assert "map height         1 channels, data, 16 bits" in told


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["encode", "a.png", "--stack", "b.png"], "a.png: --stack is given, too"),
        (["encode", "--stack", "a.png", "b.png"], "--stack: several pictures; expected -o OUT.t2d"),
        (["render", "m.t2d", "-o", "a.png"], "a.png: m.t2d has the maps color, h; expected"),
        (["render", "m.t2d", "-o", "a.png", "--map", "x"], "m.t2d: has no map 'x'; expected color"),
        (["render", "m.t2d", "-o", "m.t2d/x"], "m.t2d/x: cannot be made"),
        (["render", "n.t2d", "-o", "x.png"], "n.t2d: 6 channels without maps; expected 1 to 4"),
        (["render", "m.t2d", "-o", "a.jpg", "--map", "h", "--bits", "16"], "a.jpg: bits=16"),
    ],
)  # fmt: skip
def test_bad_commands_on_stacks_are_one_line(tmp_path, command, arguments, message):
    g = scatter(9, (8, 9), channels=4).replace(maps=(Map("color"), Map("h", 1, "data")))
    g.save(tmp_path / "m.t2d")
    scatter(9, (8, 9), channels=6).save(tmp_path / "n.t2d")
    code, (line,) = command(*arguments)
    assert code == 2 and line.startswith(f"taichi2dgs: error: {message}")


def test_linear_light_from_the_command_line_has_its_psnr_in_both(material, tmp_path, command):
    encode = ("encode", material / "color.png", "--linear", "-k", 300, "--steps", 20, "-q")
    code, lines = command(*encode)
    assert code == 0
    assert [line.split(":")[0] for line in lines] == ["color.t2d", "PSNR in sRGB"]
    g = taichi2dgs.load(tmp_path / "color.t2d")
    assert g.maps == (Map("", 3, "linear", 8),)
    assert command("render", "color.t2d", "-o", "b.png")[0] == 0
    image = taichi2dgs.read_image(tmp_path / "b.png")
    found = metrics.psnr(image, taichi2dgs.read_image(material / "color.png"))
    assert found == pytest.approx(float(lines[1].split()[3]), abs=0.2) and found > 20


def test_the_first_map_is_what_is_looked_at(material):
    stack = taichi2dgs.read_stack(material, linear=True)
    g = dataclasses.replace(scatter(50, (48, 56), channels=7), maps=stack.maps)
    first = maps.displayed(g.color.double(), g.maps)
    np.testing.assert_allclose(draw._colors(g), first, atol=1e-6)
    picture = f'src="data:image/png;base64,{base64.b64encode(page.picture(seen(g), "a")).decode()}"'
    assert picture in g._repr_html_()
    live = Live("a")
    live.report(50, Report(10, 0.0, 20.0, lambda: g))
    told = json.loads(live.state())["picture"]["maps"]
    assert [one["kind"] for one in told] == ["linear", "data", "data"]


def seen(g) -> torch.Tensor:
    return maps.displayed(g.render().detach(), g.maps)


def test_materials_have_their_maps():
    folders = sorted(path for path in (DATA / "stacks").glob("*") if path.is_dir())
    if not folders:
        pytest.skip(f"no materials in {DATA / 'stacks'}")
    for folder in folders:
        stack = taichi2dgs.read_stack(folder)
        assert kinds(stack)[:2] == [("color", 3, "srgb", 8), ("normal", 3, "data", 8)]
        assert {one.kind for one in stack.maps[2:]} == {"data"}
