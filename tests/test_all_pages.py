"""The script that makes all pages: its commands, its clock, and what it says of a failure."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import environment

from taichi2dgs.storage import files

SCRIPT = Path(__file__).parents[1] / "benchmarks/all.py"


def all_pages(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment())


@pytest.fixture
def script(benchmarks):
    heeded = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
    before = {number: signal.getsignal(number) for number in heeded}
    yield benchmarks("all")
    for number, handler in before.items():
        signal.signal(number, handler)


def test_every_page_is_a_command_that_its_script_understands(script, monkeypatch, tmp_path):
    monkeypatch.setattr(
        sys, "argv", ["all.py", *(f"--{one}={tmp_path / one}" for one in script.SETS)]
    )
    options = script.parse()
    for name in script.PAGES:
        _, path, *arguments = script.command_of(name, options)
        asked = subprocess.run(
            [sys.executable, path, *arguments], capture_output=True, text=True, env=environment()
        )
        # the folders are empty: the options were understood, and nothing was measured
        assert asked.returncode == 2 and "no pictures there" in asked.stderr, asked.stderr


def test_a_page_is_made(tmp_path, photograph, script, monkeypatch):
    (tmp_path / "kodak").mkdir()
    files.write_image(tmp_path / "kodak/a.png", photograph[:40, :40])
    small = "run_kodak.py --data {kodak} --k 30 --steps 2 --methods ours-random"
    monkeypatch.setattr(script, "PAGES", {"small": small})
    begin = ["all.py", f"--kodak={tmp_path / 'kodak'}", f"--out={tmp_path}"]
    monkeypatch.setattr(sys, "argv", [*begin, "--pages", "small"])
    assert script.main() == 0 and (tmp_path / "small.md").exists()


def test_a_page_that_fails_does_not_keep_others_from_being_made(script, monkeypatch, capsys):
    done = []
    monkeypatch.setattr(script, "run", lambda command, seconds: done.append(command) or 1)
    monkeypatch.setattr(sys, "argv", ["all.py", "--kodak=x", "--pages", "rate", "seconds"])
    assert script.main() == 2 and len(done) == 2
    assert "not made: rate, seconds" in capsys.readouterr().err


def test_pages_share_the_hours_and_leave_what_is_over_to_others(script, monkeypatch, capsys, watch):
    """The second page has all pictures after 10 seconds; the others take what they are given."""
    shares = []

    def run(command, seconds):
        shares.append(seconds)
        watch.sleep(10 if len(shares) == 2 else seconds)
        return {1: None, 2: 0, 3: 1}[len(shares)]

    monkeypatch.setattr(watch, "monotonic", watch.perf_counter, raising=False)
    monkeypatch.setattr(script, "time", watch)
    monkeypatch.setattr(script, "run", run)
    begin = ["all.py", "--kodak=x", "--hours", "0.1"]
    monkeypatch.setattr(sys, "argv", [*begin, "--pages", "seconds", "rate", "frames"])
    assert script.main() == 2
    assert shares == pytest.approx([120, 120, 360 - 120 - 10])
    error = capsys.readouterr().err
    assert "--hours 0.1 were too few for all pictures of seconds: the same command" in error
    assert "; not made: frames" in error


def test_when_its_share_is_over_a_command_is_stopped(script):
    assert script.run([sys.executable, "-c", "pass"], 20) == 0
    assert script.run([sys.executable, "-c", "import time; time.sleep(60)"], 0.5) is None
    assert script.run(["nothing"], 0) is None


def test_a_set_that_is_absent_is_named():
    done = all_pages("--list", "--kodak", "x")
    assert done.returncode == 2
    assert "the page 'other_sets' needs --photographs, --art, --textures" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_command_is_stopped_where_ctrl_c_was_ignored(script, monkeypatch, tmp_path, capsys):
    """As it is in what a shell starts in the background."""
    wait = "import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('page')"
    monkeypatch.setattr(script, "command_of", lambda *_: [sys.executable, "-c", wait])
    monkeypatch.setattr(sys, "argv", ["all.py", "--kodak=x", "--hours", "2e-4", "--pages", "rate"])
    monkeypatch.setattr(script, "PATIENCE", 10)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    began = time.monotonic()
    assert script.main() == 2 and time.monotonic() - began < 9
    assert "too few for all pictures of rate" in capsys.readouterr().err


STAND_IN = """
import sys
sys.path.insert(0, {folder!r})
import all as script
script.command_of = lambda *_: [sys.executable, "-c", {command!r}]
sys.argv = ["all.py", "--kodak=x", "--pages", "rate"]
sys.exit(script.main())
"""
PAGE = """
import pathlib, time
try:
    pathlib.Path("begun").touch()
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.5)
    pathlib.Path("page").touch()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_what_ends_the_script_lets_the_command_write_its_page(tmp_path, name):
    """Signals go to a group, as from a terminal: a second one would keep the page from its end."""
    code = STAND_IN.format(folder=str(SCRIPT.parent), command=PAGE)
    script = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        ends = time.monotonic() + 60
        while not (tmp_path / "begun").exists() and time.monotonic() < ends:
            time.sleep(0.05)
        os.killpg(script.pid, getattr(signal, name))
        _, error = script.communicate(timeout=60)
    finally:
        script.kill()
    assert script.returncode == 130 and error.endswith("all: stopped\n")
    assert (tmp_path / "page").exists()
