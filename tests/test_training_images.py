"""Photographs for training: which are found, what is broken, and crops of them."""

import logging
import os
import shutil
import sys

import numpy as np
import pytest
import torch

from pipelines.training import images
from taichi2dgs.storage import files


@pytest.fixture
def folder(tmp_path):
    """A folder with six pictures in three folders, each of another grey."""
    for index in range(6):
        place = tmp_path / "data" / ("a", "b", "valid")[index % 3]
        place.mkdir(parents=True, exist_ok=True)
        grey = torch.full((40, 48, 3), index / 10) + 0.1 * torch.rand(40, 48, 3)
        files.write_image(place / f"{index}.png", grey)
    return tmp_path / "data"


def cut(path) -> None:
    """Cut a file off after its header and half of its pixels."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def names(paths) -> list[str]:
    return [path.name for path in paths]


def test_folders_of_images(folder, tmp_path):
    found = images.find(folder)
    assert names(found.train) == ["0.png", "3.png", "1.png", "4.png"]
    assert names(found.valid) == ["2.png", "5.png"]
    alone = images.find(folder / "a")
    assert names(alone.train) == ["3.png"] and names(alone.valid) == ["0.png"]
    with pytest.raises(ValueError, match="no images there"):
        images.find(tmp_path / "none")
    shutil.rmtree(folder / "b")
    (folder / "a" / "3.png").unlink()
    with pytest.raises(ValueError, match="none of 1 images is left to train on; they all validate"):
        images.find(folder / "a")


@pytest.mark.skipif(sys.platform == "win32", reason="makes symbolic links")
def test_no_picture_is_both_trained_on_and_validated_on(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (tmp_path / "link").symlink_to(folder / "valid")
    for valid in (folder / "valid", "data/valid", "data/a/../valid", tmp_path / "link"):
        for data in ("data", folder):
            found = images.find(data, valid)
            assert names(found.train) == ["0.png", "3.png", "1.png", "4.png"]
            assert names(found.valid) == ["2.png", "5.png"]
    with pytest.raises(ValueError, match="is left to train on"):
        images.find(folder, folder)


@pytest.mark.skipif(sys.platform == "win32", reason="makes symbolic links and pipes")
def test_what_has_no_good_header_is_left_out_and_named(folder, caplog):
    whole = images.find(folder)
    (folder / "a" / "broken.png").write_bytes(b"no picture")
    (folder / "b" / "empty.jpg").touch()
    (folder / "valid" / "._2.png").write_bytes(b"\0" * 4096)
    (folder / "album.png").mkdir()
    (folder / "lost.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "pipe.png")
    with caplog.at_level(logging.WARNING, "taichi2dgs"):
        assert images.find(folder) == whole
    (message,) = caplog.messages
    assert message.startswith("left out 5 of 11 images, which cannot be read: ")
    for name in ("broken.png", "empty.jpg", "._2.png", "lost.png", "pipe.png"):
        assert name in message
    assert "album" not in message
    with pytest.raises(ValueError, match="no image there that can be read"):
        for path in (folder / "a").glob("[03].png"):
            path.unlink()
        images.find(folder / "a")


def test_the_digest_tells_other_pictures_apart(folder, tmp_path):
    first = images.find(folder).digest
    shutil.copytree(folder, tmp_path / "moved")
    assert images.find(tmp_path / "moved").digest == first
    assert images.find(folder, folder / "a").digest != first
    (tmp_path / "moved" / "a" / "9.png").write_bytes((folder / "a" / "0.png").read_bytes())
    assert images.find(tmp_path / "moved").digest != first
    changed = bytearray((folder / "a" / "0.png").read_bytes())
    changed[-20] ^= 1
    (folder / "a" / "0.png").write_bytes(changed)
    assert images.find(folder).digest != first


def test_in_place_of_a_picture_that_breaks_off_comes_the_next(folder, caplog):
    paths = images.find(folder).train
    whole = [images.read_from(paths, index) for index in range(4)]
    cut(paths[1])
    cut(paths[3])
    assert images.find(folder).train == paths  # all headers are good
    with caplog.at_level(logging.WARNING, "taichi2dgs"):
        for _ in range(2):
            for index, instead in enumerate((0, 2, 2, 0)):
                assert torch.equal(images.read_from(paths, index), whole[instead])
    assert len(caplog.messages) == 2  # one for each broken picture
    assert all(str(path) in text for path, text in zip(paths[1::2], caplog.messages, strict=True))
    with pytest.raises(ValueError, match="none of 2 images can be read any more"):
        images.read_from([paths[1], paths[3]], 0)


def test_crops_depend_on_their_number_alone_and_differ(folder):
    paths = images.find(folder).train
    crops = images.Crops(paths, 30, 24, (10_000, 100_000), seed=1)
    image, k = crops[7]
    again, same = images.Crops(paths, 30, 24, (10_000, 100_000), seed=1)[7]
    assert torch.equal(image, again) and k == same and image.shape == (3, 24, 24)
    assert not torch.equal(image, crops[19][0])
    counts = [crops[index][1] for index in range(30)]
    assert 22 <= min(counts) < 60 and 110 < max(counts) <= 220  # log-uniform from 22 to 220


def test_small_images_are_reflected_and_squares_turn():
    ramp = torch.arange(3.0)[None, None].expand(1, 2, 3)
    continued = images.reflected(ramp, 7)
    assert continued.shape == (1, 7, 7) and continued[0, 0].tolist() == [0, 1, 2, 1, 0, 1, 2]
    assert images.reflected(ramp, 2) is ramp
    square = torch.arange(9).reshape(1, 3, 3)
    turns = {tuple(images.turned(square, which).flatten().tolist()) for which in range(8)}
    assert len(turns) == 8


def test_a_crop_has_as_much_of_its_square_as_there_is():
    columns = torch.arange(8.0).expand(1, 2, 8)
    centre = images.cropped(columns, 5)
    assert centre.shape == (1, 2, 5) and centre[0, 0].tolist() == [1, 2, 3, 4, 5]
    rng = np.random.default_rng(0)
    starts = {int(images.cropped(columns, 5, rng)[0, 0, 0]) for _ in range(50)}
    assert starts == {0, 1, 2, 3}


def test_a_share_of_crops_is_drawn_by_script(folder):
    paths = images.find(folder).train
    nowhere = [folder / "missing.png"]
    drawn = images.Crops(nowhere, 4, 24, (10_000, 100_000), 1, variety=images.Variety(synthetic=1))
    assert all(drawn[index][0].shape == (3, 24, 24) for index in range(4))
    some = images.Crops(paths, 40, 24, (10_000, 100_000), 1, variety=images.Variety(synthetic=0.5))
    all_photographs = images.Crops(paths, 40, 24, (10_000, 100_000), 1)
    same = [torch.equal(some[index][0], all_photographs[index][0]) for index in range(40)]
    assert 10 <= sum(same) <= 30
    assert [some[i][1] for i in range(40)] == [all_photographs[i][1] for i in range(40)]  # k


def test_photographs_are_scaled_and_recolored_at_random(folder):
    paths = images.find(folder).train
    plain = images.Crops(paths, 12, 24, (10_000, 100_000), 1)
    for variety in (images.Variety(scale=(0.5, 0.8)), images.Variety(color=1)):
        other = images.Crops(paths, 12, 24, (10_000, 100_000), 1, variety=variety)
        for index in range(12):
            image = other[index][0]
            assert image.shape == (3, 24, 24) and image.min() >= 0 and image.max() <= 1
            assert not torch.equal(image, plain[index][0])


def test_scaling_keeps_what_is_flat_and_the_mean():
    image = torch.rand(3, 40, 30, generator=torch.Generator().manual_seed(0))
    smaller = images.scaled(image, 0.5)
    assert smaller.shape == (3, 20, 15) and smaller.std() < 0.7 * image.std()
    torch.testing.assert_close(smaller.mean(), image.mean(), rtol=0, atol=0.02)
    torch.testing.assert_close(
        images.scaled(torch.full((3, 9, 9), 0.3), 1.7).unique()[0].item(), 0.3
    )
    assert images.scaled(image, 1) is image
    with pytest.raises(ValueError, match="the lower number first"):
        images.Variety(scale=(2, 1))
