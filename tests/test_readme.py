"""The README's example runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import environment

README = Path(__file__).resolve().parents[1] / "README.md"


def block(name: str) -> str:
    """The fenced block that follows a marker."""
    found = re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```", README.read_text(), flags=re.S)
    assert found, name
    return found[1]


def test_python_example_runs(tmp_path):
    pytest.importorskip("skimage", reason="needs the sample photograph")
    script = block("python")
    assert len(script.strip().splitlines()) <= 16
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "psnr=" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"astronaut.t2d", "large.png"}


def test_commands_name_what_exists():
    assert "taichi2dgs encode sample:astronaut" in block("encode")
    assert "pytest" in block("test")
