"""run_peer_files.py: a peer's own files beside our fits, by files that the tests write."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import scatter

from taichi2dgs import Gaussians, RenderSettings, metrics
from taichi2dgs.exchange import arrays
from taichi2dgs.storage import files

SIZE = (40, 56)


@pytest.fixture
def script(benchmarks):
    return benchmarks("run_peer_files")


def summed(n: int = 60) -> Gaussians:
    """Gaussians that the peer could have fitted."""
    g = scatter(n, SIZE, margin=-0.05, log_scale=(-0.2, 1.2))
    return replace(g, color=g.color * 0.3, settings=RenderSettings(blend="sum"))


def peers_numbers(g: Gaussians, lost: int = 0) -> dict[str, np.ndarray]:
    """The arrays of the viewer gaussian_image: centres in [-1, 1], half a pixel off ours."""
    height, width = g.size
    xyz = (g.xy - 0.5) / torch.tensor([width, height]) * 2 - 1
    parts = [xyz, g.log_scale.exp(), -g.theta[:, None], g.color]
    return {
        **{
            name: torch.cat([part, part[:1].expand(lost, -1) * torch.nan]).numpy()
            for name, part in zip(("xyz", "scaling", "rotation", "color"), parts, strict=True)
        },
        "resolution": np.array([width, height], np.uint32),
    }


def checkpoint(g: Gaussians) -> dict[str, torch.Tensor]:
    """A checkpoint of GaussianImage with rotation and scale."""
    numbers = {name: torch.from_numpy(part) for name, part in peers_numbers(g).items()}
    return {
        "_xyz": numbers["xyz"].atanh(),
        "_scaling": numbers["scaling"] - 0.5,
        "_rotation": (numbers["rotation"] / (2 * torch.pi)).remainder(1).logit(),
        "_features_dc": numbers["color"],
    }


def run(script, monkeypatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["run_peer_files.py", *map(str, arguments)])
    return script.main()


@pytest.fixture
def folders(tmp_path, photograph) -> tuple[Path, Path]:
    """Two pictures, and a peer's file of each: one by its own name, one by that of its folder."""
    pictures, peers = tmp_path / "kodak", tmp_path / "peers"
    for name in ("a", "b"):
        (peers / name).mkdir(parents=True)
        pictures.mkdir(exist_ok=True)
        files.write_image(pictures / f"{name}.png", photograph[: SIZE[0], : SIZE[1]])
    np.savez_compressed(peers / "a.npz", **peers_numbers(summed(), lost=3))
    np.savez_compressed(peers / "b/model_f16.npz", **peers_numbers(summed(50)))
    return pictures, peers


def test_a_page_has_the_peers_files_and_our_fits_of_as_many_gaussians(
    folders, tmp_path, script, monkeypatch, capsys
):
    pictures, peers = folders
    given = (peers, "--data", pictures, "--steps", 5, "--seconds", 0.1, "--out", tmp_path / "page")
    assert run(script, monkeypatch, *given) == 0
    rows = json.loads((tmp_path / "page.json").read_text())["rows"]
    assert [(row["image"], row["fit"], row["gaussians"], row["left_out"]) for row in rows] == [
        ("a", "the peer's file", 60, 3), ("a", "ours, 5 steps", 60, 0), ("a", "ours, 0.1 s", 60, 0),
        ("b", "the peer's file", 50, 0), ("b", "ours, 5 steps", 50, 0), ("b", "ours, 0.1 s", 50, 0),
    ]  # fmt: skip
    image = files.read_image(pictures / "a.png")
    assert rows[0]["psnr"] == pytest.approx(metrics.psnr(summed().render(), image), abs=0.01)
    size = 8 * (peers / "a.npz").stat().st_size / (SIZE[0] * SIZE[1])
    assert rows[0]["bpp_file"] == pytest.approx(size, abs=1e-3) and rows[1]["steps"] == 5
    page = (tmp_path / "page.md").read_text()
    assert "The files\nare the peer's" in page and "| 2 | the peer's file | 55 | 3 |" in page
    assert (
        page.strip() == capsys.readouterr().out.strip()
        and str(tmp_path) not in page.split("--out")[0]
    )


def test_a_row_is_measured_once_for_each_file(folders, tmp_path, script, monkeypatch):
    pictures, peers = folders
    given = (peers, "--data", pictures, "--steps", 2, "--seconds", "--out", tmp_path / "page")
    assert run(script, monkeypatch, *given) == 0
    asked, compared = [], script.compared
    monkeypatch.setattr(script, "compared", lambda i, g: asked.append(len(g)) or compared(i, g))
    assert run(script, monkeypatch, *given) == 0 and not asked
    np.savez_compressed(peers / "b/model_f16.npz", **peers_numbers(summed(40)))
    assert run(script, monkeypatch, *given) == 0
    assert asked == [40, 40]  # all else was known


@pytest.mark.parametrize("kind", ["viewer", "square", "checkpoint"])
def test_a_peers_file_renders_as_it_was_fitted(tmp_path, script, kind):
    """The peer's cutoff leaves out weights below 1/255: of colours up to 0.3, a thousandth each.

    The viewer's converter writes the width twice, and no height.
    """
    g, image = summed(), torch.zeros(*SIZE, 3)
    numbers, path = peers_numbers(g), tmp_path / "a.npz"
    if kind == "square":
        numbers["resolution"][1] = SIZE[1]
    if kind == "checkpoint":
        path = tmp_path / "a.pth.tar"
        torch.save(checkpoint(g), path)
    else:
        np.savez(path, **numbers)
    made, left_out = script.read(path, image)
    assert made.size == SIZE and len(made) == len(g) and left_out == 0
    torch.testing.assert_close(made.xy, g.xy, atol=1e-3, rtol=0)
    exact = replace(g, settings=arrays.SUM).render()
    torch.testing.assert_close(made.render(), exact, atol=1e-4, rtol=0)
    torch.testing.assert_close(made.render(), g.render(), atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [("no picture", "c.npz: no picture is named as the file or its folder is"),
     ("two", "b.npz: b has .*model_f16.npz already|model_f16.npz: b has .*b.npz already"),
     ("none", "peers: no .npz or .pth.tar files there"), ("text", "b.npz: no Gaussians of a known"),
     ("size", "a.npz: 40x20 pixels of 3 channels; expected 40x56 of 3"),
     ("lost", "a.npz: no Gaussian is finite"), ("ours", "a.npz: a file of this library"),
     ("grey", "a.npz: 40x56 pixels of 1 channels; expected 40x56 of 3")],
)  # fmt: skip
def test_a_bad_file_is_named_in_one_line(
    folders, tmp_path, script, monkeypatch, capsys, change, message
):
    pictures, peers = folders
    numbers = peers_numbers(summed(4))
    if change == "no picture":
        np.savez(peers / "c.npz", **numbers)
    elif change == "two":
        np.savez(peers / "b.npz", **numbers)
    elif change == "none":
        for path in peers.rglob("*.npz"):
            path.unlink()
    elif change == "text":
        (peers / "b/model_f16.npz").unlink()
        (peers / "b.npz").write_bytes(b"no")
    elif change == "ours":
        (peers / "a.npz").write_bytes(arrays.npz(summed(4)))
    else:
        other = {
            "size": {"resolution": np.array([20, 40])},
            "lost": {"xyz": numbers["xyz"] * np.nan},
            "grey": {"color": numbers["color"][:, :1]},
        }[change]
        np.savez(peers / "a.npz", **{**numbers, **other})
    out = tmp_path / "page"
    assert run(script, monkeypatch, peers, "--data", pictures, "--out", out, "--steps", 1) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith("run_peer_files: error: ")
    assert re.search(message, line), line
    assert not out.with_suffix(".json").exists()  # nothing was fitted


def test_how_many_files_is_a_number_of_one_or_more(folders, script, monkeypatch, capsys):
    assert run(script, monkeypatch, folders[1], "--data", folders[0], "--images", 0) == 2
    assert "--images 0: expected 1 or more" in capsys.readouterr().err
