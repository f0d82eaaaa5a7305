"""How pictures are encoded, and which arguments are refused; large pictures; folders."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import environment

import pipelines
import taichi2dgs
from nets import blockwise
from nets.weights import load
from pipelines import folder as folders
from pipelines.cli import main
from pipelines.encoding import Encoding
from taichi2dgs import metrics
from taichi2dgs.storage import files, t2d


def test_coarse_qualities_are_refined_and_keep_within_the_bytes(tmp_path, photograph):
    made = Encoding(k=600, quality="medium", steps=600)  # refining must not go on with the fit
    g = made.run(photograph).gaussians
    kept = tmp_path / "plain.t2d", tmp_path / "refined.t2d", tmp_path / "tight.t2d"
    g.save(kept[0], "medium")
    made.save(kept[1], g, photograph)
    plain, refined = (metrics.psnr(taichi2dgs.load(p).render(), photograph) for p in kept[:2])
    assert plain + 0.05 < refined < metrics.psnr(g.render(), photograph)
    size = kept[0].stat().st_size
    tight = Encoding(target_bytes=size, quality="medium", steps=60)
    tight.save(kept[2], g, photograph)
    assert kept[2].stat().st_size <= size


def test_files_of_long_fits_are_refined_longer(photograph, tmp_path, monkeypatch):
    """Whoever fits for longer has the better file; a quick fit of high quality has no refining."""
    refined = []

    def noted(gaussians, quality, image, steps, *more):
        refined.append(steps)
        return t2d.encode(gaussians, quality)

    monkeypatch.setattr("pipelines.encoding.encode_refined", noted)
    (tmp_path / "in").mkdir()
    files.write_image(tmp_path / "in" / "a.png", photograph[:16, :16])
    long = Encoding(k=20, start="random", steps=1300, quality="medium")
    for n, made in enumerate((replace(long, steps=6), long, replace(long, refine=7))):
        assert folders.encode_folder(tmp_path / "in", tmp_path / str(n), made) == 0
    arguments = ["-k", "20", "--start", "random", "--steps", "1300", "-q"]
    for quality in ("small", "high", "lossless"):
        command = ["encode", str(tmp_path / "in" / "a.png"), "-o", str(tmp_path / "a.t2d")]
        assert main([*command, "--quality", quality, *arguments]) == 0
    assert main([*command, "--quality", "high", *arguments, "--steps", "399"]) == 0
    assert refined == [300, 325, 7, 325, 48, 0, 0]
    with pytest.raises(ValueError, match=r"fitted=-1; expected a whole number"):
        long.file_of(taichi2dgs.load(tmp_path / "a.t2d"), photograph[:16, :16], fitted=-1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 5, "target_psnr": 30.0}, "k and target_psnr are given; expected one of them"),
        ({"target_psnr": 30, "target_bytes": 9}, "target_psnr and target_bytes are given"),
        ({"k": "many"}, "k='many'; expected a whole number"),
        ({"k": 0}, "k=0; expected a whole number of 1 or more"),
        ({"target_psnr": math.nan}, "target_psnr=nan; expected a positive number of dB"),
        ({"target_bytes": 0}, "target_bytes=0; expected a positive number"),
        ({"quality": "best"}, "quality='best'; expected one of lossless"),
        ({"steps": -1}, "steps=-1"),
        ({"steps": 2.0}, "steps=2.0; expected a whole number of 0 or more"),
        ({"seconds": "two"}, "seconds='two'; expected 0 or more"),
        ({"seconds": math.inf}, "seconds=inf"),
        ({"seed": None}, "seed=None; expected a whole number"),
        ({"seed": -1}, "seed=-1"),
        ({"k": 5.0}, "k=5.0"),
        ({"k": [5]}, r"k=\[5\]"),
        ({"target_psnr": "38"}, "target_psnr='38'; expected a positive number of dB"),
        ({"target_bytes": 10**400}, "target_bytes="),
        ({"start": ["prior"]}, "start="),
        ({"quality": ["high"]}, "quality="),
    ],
)
def test_bad_arguments_are_named(photograph, arguments, message):
    with pytest.raises(ValueError, match=message):
        taichi2dgs.encode(photograph, **arguments)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("absent.png", "absent.png"),
        (5, "image is a int; expected a path, PIL image, array or tensor"),
        (None, "image is a NoneType"),
        (torch.full((8, 8, 3), 255.0), "image has floats from 255 to 255"),
        (torch.zeros(3, 40, 50), r"image has shape \[3, 40, 50\]; expected .*not .C, H, W"),
    ],
)
def test_what_is_no_picture_is_named(image, message):
    with pytest.raises(ValueError, match=message):
        taichi2dgs.encode(image, 5, steps=0, start="random")


def test_numbers_of_numpy_are_numbers(photograph):
    g = taichi2dgs.encode(
        photograph[:20, :30].numpy(),
        np.int64(30),
        steps=np.uint8(2),
        seconds=np.float32(9),
        seed=np.int32(3),
        start="random",
    )
    same = taichi2dgs.encode(photograph[:20, :30], 30, steps=2, seconds=9, seed=3, start="random")
    assert len(g) == 30 and torch.equal(g.xy.round(), same.xy.round())


@pytest.mark.parametrize("name", ["position", "attributes"])
def test_blocks_give_what_the_whole_gives(name):
    """Blocks agree at their borders, too; larger convolutions round otherwise: 2e-6 was seen."""
    generator = torch.Generator().manual_seed(0)
    unet = load(name).unet
    inputs = {"position": 4, "attributes": 8}[name]
    maps = torch.rand(1, inputs, 610, 701, generator=generator)
    k = torch.tensor([20_000])
    with torch.no_grad():
        whole = unet(maps, k)
        parts = blockwise.Blockwise(unet, at_once=4 * 96**2)(maps, k)
    assert (parts - whole).abs().max() < 1e-4 * whole.abs().max()


@pytest.fixture
def folder(tmp_path, photograph):
    (tmp_path / "in").mkdir()
    for index, name in enumerate(("a.png", "b.jpg", "d.png", "e.webp")):
        files.write_image(tmp_path / "in" / name, photograph[:30, 10 * index : 10 * index + 30])
    (tmp_path / "in" / "c.png").write_bytes(b"\x89PNG but no more")
    (tmp_path / "in" / "notes.txt").write_text("not a picture by name")
    return tmp_path / "in"


def encode_folder(folder, *more) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "-m",
        "pipelines.cli",
        "encode",
        folder,
        "--out",
        folder.parent / "out",
        "-k",
        30,
        "--steps",
        3,
        *more,
    ]
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment(), check=False
    )


def test_a_folder_is_encoded_but_for_its_bad_file_and_resumed(folder):
    done = encode_folder(folder)
    out = folder.parent / "out"
    assert done.returncode == 1 and "4 encoded, 0 were there, 1 failed" in done.stdout
    assert f"taichi2dgs: skipped: {folder / 'c.png'}: not a readable picture" in done.stderr
    assert sorted(path.name for path in out.glob("*.t2d")) == ["a.t2d", "b.t2d", "d.t2d", "e.t2d"]
    assert len(t2d.load(out / "b.t2d")) == 30
    before = (out / "a.t2d").stat().st_mtime_ns
    (out / "d.t2d").unlink()
    files.write_image(folder / "c.png", torch.zeros(9, 9, 1))
    again = encode_folder(folder, "-q")
    assert again.returncode == 0 and again.stderr == ""
    assert "2 encoded, 3 were there, 0 failed" in again.stdout
    assert (out / "a.t2d").stat().st_mtime_ns == before


def test_shards_share_a_folder(folder):
    (folder / "c.png").unlink()
    parts = [encode_folder(folder, "-q", "--shard", shard) for shard in ("1/3", "2/3")]
    assert ["2 encoded" in parts[0].stdout, "1 encoded" in parts[1].stdout] == [True, True]
    names = sorted(path.name for path in (folder.parent / "out").glob("*.t2d"))
    assert names == ["a.t2d", "b.t2d", "e.t2d"]


def test_bad_folders_are_named(folder, tmp_path):
    files.write_image(folder / "a.webp", torch.zeros(9, 9, 3))
    assert "two pictures would become" in encode_folder(folder).stderr
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'empty'}: no pictures there" in encode_folder(tmp_path / "empty").stderr
    assert "expected I/N with 1 <= I <= N" in encode_folder(folder, "--shard", "4/3").stderr


def test_encode_reports_and_takes_the_older_name_of_a_start(photograph, capsys):
    image, steps = photograph[:16, :24].contiguous(), []
    g = taichi2dgs.encode(
        image,
        30,
        steps=4,
        start="random",
        progress=True,
        on_report=lambda report: steps.append(report.step),
    )
    assert steps[0] == 0 and steps[-1] == 4
    assert "encode, 30 Gaussians" in capsys.readouterr().err
    older = taichi2dgs.encode(image, 30, steps=4, init="random")
    assert torch.equal(older.packed(), g.packed()) and capsys.readouterr().err == ""
    with pytest.raises(ValueError, match="init='best'"):
        pipelines.initialize(image, 30, init="best")


def test_an_encoding_returns_what_encode_does_with_its_psnr_and_reports(tmp_path, photograph):
    files.write_image(tmp_path / "a.png", photograph[:16, :24])
    result = pipelines.Encoding(k=30, steps=4, start="random").run(tmp_path / "a.png")
    g = taichi2dgs.encode(tmp_path / "a.png", 30, steps=4, start="random")
    assert torch.equal(result.gaussians.packed(), g.packed())
    image = taichi2dgs.read_image(tmp_path / "a.png")
    assert result.psnr == pytest.approx(metrics.psnr(g.render(), image), abs=0.01)
    assert [report.step for report in result.history] == [0, 1, 2, 3, 4]
    assert 0 < result.seconds == result.history[-1].seconds
    with pytest.raises(ValueError, match="on_report=3; expected a function"):
        pipelines.Encoding(k=30, steps=4).run(image, 3)
