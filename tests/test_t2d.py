"""Gaussians on disk."""

import dataclasses
import os
import sys
from pathlib import Path

import pytest
import torch
from conftest import scatter

import taichi2dgs
from taichi2dgs import RenderSettings, t2d


def test_lossless_keeps_every_bit_and_the_order(tmp_path):
    g = scatter(999, (12, 34), channels=4)
    g = dataclasses.replace(g, settings=RenderSettings(7, 3.3, 1e-3, "sum"))
    g.save(tmp_path / "g.t2d", "lossless")
    again = taichi2dgs.load(tmp_path / "g.t2d")
    assert again.size == (12, 34) and again.settings == g.settings
    assert torch.equal(again.packed().view(torch.int32), g.packed().view(torch.int32))


def test_bad_files_are_named(tmp_path):
    good = tmp_path / "good.t2d"
    scatter(9, (12, 34)).save(good)
    data = good.read_bytes()
    (tmp_path / "cut.t2d").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.t2d").write_text("no")
    (tmp_path / "empty.t2d").touch()
    for name in ("cut", "text", "empty", "absent"):
        with pytest.raises(ValueError, match=rf"{name}\.t2d: "):
            taichi2dgs.load(tmp_path / f"{name}.t2d")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "g.t2d"
    scatter(3, (4, 4)).save(path)
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(ValueError, match="disk full"):
        scatter(5, (4, 4)).save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["g.t2d"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_saved_files_have_ordinary_permissions(tmp_path):
    scatter(3, (4, 4)).save(tmp_path / "g.t2d")
    (tmp_path / "plain").touch()
    modes = [(tmp_path / name).stat().st_mode for name in ("g.t2d", "plain")]
    assert modes[0] == modes[1]


@pytest.mark.parametrize("quality", t2d.QUALITIES)
def test_a_saved_file_renders_nearly_as_before(tmp_path, quality):
    g = scatter(300, (24, 30))
    g.save(tmp_path / "g.t2d", quality)
    again = taichi2dgs.load(tmp_path / "g.t2d")
    assert len(again) == len(g) and again.size == g.size
    bound = {"lossless": 0, "high": 0.02, "medium": 0.06, "small": 0.2}[quality]
    assert (again.render() - g.render()).square().mean().sqrt() <= bound
