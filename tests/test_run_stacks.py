"""The table of stacks against a file for each map."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from conftest import environment
from test_benchmarks import SCRIPT

from taichi2dgs import Map
from taichi2dgs.storage import files
from taichi2dgs.storage.maps import Stack


@pytest.mark.parametrize(
    "psnr, wanted, reached",
    [(25.0, 10 * 10**2.5, True), (31.0, 10 * 10**3.1, True), (5.0, 80, True), (90, 40_960, False)],
)
def test_bytes_at_a_psnr_are_found_between_two_fits(benchmarks, monkeypatch, psnr, wanted, reached):
    """Of Gaussians that take 10 bytes each and reach ten times their decimal logarithm in dB."""
    script = benchmarks("run_stacks")
    tried = []

    def saved(stack, k, options):
        tried.append(k)
        return 10 * k, {"a": 10 * float(torch.tensor(float(k)).log10())}

    monkeypatch.setattr(script, "saved", saved)
    stack = Stack(torch.zeros(64, 64, 1), (Map("a", 1, "data"),))
    found = script.bytes_alone(stack, psnr, SimpleNamespace(k=2000))
    assert found[0] == pytest.approx(wanted, rel=1e-4) and found[1] == reached
    assert len(set(tried)) == len(tried) <= 9


def test_run_stacks_compares_one_file_with_one_for_each_map(tmp_path, photograph):
    wood = tmp_path / "data" / "wood"
    wood.mkdir(parents=True)
    files.write_image(wood / "color.png", photograph[:32, :32])
    files.write_image(wood / "height.png", photograph[:32, :32].mean(2, keepdim=True))
    command = [sys.executable, SCRIPT.with_name("run_stacks.py"), "--data", wood.parent,
               "--k", 120, "--side", 32, "--steps", 10, "--out", tmp_path / "table.md"]  # fmt: skip
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert row["channels"] == 4 and list(row["maps"]) == ["color", "height"]
    assert all(one["reached"] and one["bytes"] > 0 for one in row["maps"].values())
    assert "| wood | 4 | " in done.stdout
    assert done.stdout.strip() == (tmp_path / "table.md").read_text().strip()
