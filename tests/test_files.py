"""Pictures on disk."""

import os

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from taichi2dgs.storage import files


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_round_trip_keeps_size_and_channels(tmp_path, channels):
    image = (torch.arange(5 * 7 * channels).reshape(5, 7, channels) % 256).float() / 255
    if channels in (2, 4):  # as read_image does
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
