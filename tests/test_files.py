"""Pictures and Gaussians on disk."""

import os
import sys

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from conftest import scatter

import taichi2dgs
from taichi2dgs import files


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_round_trip_keeps_size_and_channels(tmp_path, channels):
    image = (torch.arange(5 * 7 * channels).reshape(5, 7, channels) % 256).float() / 255
    if channels in (2, 4):  # as read_image has it: 8 bits, times the opacity
        image[..., :-1] *= image[..., -1:]
    files.write_image(tmp_path / "a.png", image)
    torch.testing.assert_close(files.read_image(tmp_path / "a.png"), image)
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp"])
def test_other_formats(tmp_path, suffix):
    files.write_image(tmp_path / f"a{suffix}", torch.full((9, 8, 3), 0.5))
    assert files.read_image(tmp_path / f"a{suffix}").shape == (9, 8, 3)


def test_sixteen_bits(tmp_path):
    iio.imwrite(tmp_path / "a.png", np.array([[0, 65535], [32768, 1]], dtype=np.uint16))
    assert files.read_image(tmp_path / "a.png")[1, 0, 0] == pytest.approx(32768 / 65535)


def test_values_are_clamped_and_rounded(tmp_path):
    files.write_image(tmp_path / "a.png", torch.tensor([[[-1.0], [0.5], [3.0]]]))
    assert iio.imread(tmp_path / "a.png").tolist() == [[0, 128, 255]]


def test_bad_pictures_are_named(tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").touch()
    for name in ("text.png", "empty.png", "absent.png"):
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            files.read_image(tmp_path / name)
    with pytest.raises(ValueError, match=str(tmp_path)):
        files.read_image(tmp_path)
    with pytest.raises(ValueError, match="sample:cow"):
        files.read_image("sample:cow")


def test_bad_targets_are_named(tmp_path):
    image = torch.zeros(2, 2, 3)
    for target in (tmp_path / "no" / "a.png", tmp_path / "a.unknown", tmp_path):
        with pytest.raises(ValueError, match=str(target)):
            files.write_image(target, image)
    with pytest.raises(ValueError, match="shape"):
        files.write_image(tmp_path / "a.png", torch.zeros(2, 2, 5))
    assert os.listdir(tmp_path) == []


def test_gaussians_round_trip(tmp_path):
    g = scatter(9, (12, 34), channels=4)
    taichi2dgs.save_npz(tmp_path / "g.npz", g)
    again = taichi2dgs.load_npz(tmp_path / "g.npz")
    assert again.size == (12, 34) and torch.equal(again.packed(), g.packed())


def test_bad_gaussian_files_are_named(tmp_path):
    good = tmp_path / "good.npz"
    taichi2dgs.save_npz(good, scatter(9, (12, 34)))
    data = good.read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.npz").write_text("no")
    (tmp_path / "empty.npz").touch()
    np.save(tmp_path / "array.npz", np.zeros(3))
    os.rename(tmp_path / "array.npz.npy", tmp_path / "array.npz")
    np.savez(tmp_path / "other.npz", xy=np.zeros((1, 2)))
    with np.load(good) as archive:
        arrays = dict(archive)
    np.savez(tmp_path / "shape.npz", **(arrays | {"theta": np.zeros((2, 2), np.float32)}))
    np.savez(tmp_path / "nan.npz", **(arrays | {"theta": np.full(9, np.nan, np.float32)}))
    np.savez(tmp_path / "words.npz", **(arrays | {"theta": np.array(["a"] * 9)}))
    np.savez(tmp_path / "pickle.npz", **(arrays | {"theta": np.array([{}], dtype=object)}))
    names = ["cut", "text", "empty", "array", "other", "shape", "nan", "words", "pickle", "absent"]
    for name in names:
        with pytest.raises(ValueError, match=f"{name}.npz"):
            taichi2dgs.load_npz(tmp_path / f"{name}.npz")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "g.npz"
    taichi2dgs.save_npz(path, scatter(3, (4, 4)))
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(files.np, "savez", fail)
    with pytest.raises(ValueError, match="disk full"):
        taichi2dgs.save_npz(path, scatter(5, (4, 4)))
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["g.npz"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_saved_files_have_ordinary_permissions(tmp_path):
    taichi2dgs.save_npz(tmp_path / "g.npz", scatter(3, (4, 4)))
    (tmp_path / "plain").touch()
    modes = [(tmp_path / name).stat().st_mode for name in ("g.npz", "plain")]
    assert modes[0] == modes[1]
