"""What Ctrl-C leaves of searches, commands, folders, loops, training and peers' methods."""

import functools
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import environment

from pipelines import baselines, cli, encoding
from pipelines.encoding import Encoding
from pipelines.training import position
from taichi2dgs import FitInterrupted, fit_batch, metrics
from taichi2dgs import fit as fit_function
from taichi2dgs.fitting.fit import fit_counted
from taichi2dgs.storage import files, t2d

SMOKE = Path(__file__).resolve().parents[1] / "configs" / "smoke.yaml"


@pytest.fixture
def stopped(monkeypatch):
    """Let Ctrl-C come at the end of the n-th fit of a search."""

    def at(number: int, inside: bool = True) -> list:
        made = []

        def fake(real, *arguments, **more):
            if len(made) + 1 == number and not inside:
                raise KeyboardInterrupt
            made.append(real(*arguments, **more))
            if len(made) == number:
                raise FitInterrupted(made[-1])
            return made[-1]

        monkeypatch.setattr(encoding, "fit", functools.partial(fake, fit_function))
        monkeypatch.setattr(encoding, "fit_counted", functools.partial(fake, fit_counted))
        return made

    return at


@pytest.mark.parametrize("inside", [True, False])
def test_an_interrupted_search_has_its_finished_fit(photograph, stopped, inside):
    made = stopped(2, inside)
    with pytest.raises(FitInterrupted) as raised:
        Encoding(target_psnr=60, steps=2, start="random").run(photograph[:24, :30])
    assert raised.value.result is made[0] and len(made) == 1 + inside


@pytest.mark.parametrize("target", [{"target_psnr": 60}, {"target_bytes": 300}, {"k": 20}])
def test_an_interrupted_first_fit_has_what_was_there(photograph, stopped, target):
    made = stopped(1)
    with pytest.raises(FitInterrupted) as raised:
        Encoding(**target, steps=2, start="random").run(photograph[:24, :30])
    assert raised.value.result is made[0]
    stopped(1, inside=False)
    with pytest.raises(KeyboardInterrupt) as plain:
        Encoding(**target, steps=2, start="random").run(photograph[:24, :30])
    assert plain.type is KeyboardInterrupt


@pytest.mark.parametrize(("each", "number"), [(2.0, 3), (100.0, 2)])
def test_an_interrupted_search_of_bytes_has_what_keeps_within(
    photograph, stopped, monkeypatch, each, number
):
    """It is the finished fit if that is small enough, else the unfinished one if that is."""
    monkeypatch.setitem(encoding.BYTES_EACH, "high", each)  # the first fit is too large, or not
    made = stopped(number)
    with pytest.raises(FitInterrupted) as raised:
        Encoding(target_bytes=1500, steps=2, start="random").run(photograph[:48, :60])
    *sizes, last = [len(t2d.encode(result.gaussians, "high")) for result in made]
    if each == 2:
        assert min(sizes) > 1500 >= last and raised.value.result is made[-1]
    else:
        assert max(sizes) <= 1500 and raised.value.result is made[0]


def test_an_interrupted_command_saves_only_what_keeps_within_the_bytes(
    tmp_path, photograph, stopped, capsys
):
    files.write_image(tmp_path / "a.png", photograph[:24, :30])
    command = [
        "encode",
        str(tmp_path / "a.png"),
        "-o",
        str(tmp_path / "a.t2d"),
        "--steps",
        "2",
        "--start",
        "random",
        "-q",
    ]
    stopped(1)
    assert cli.main([*command, "--target-bytes", "60"]) == 130
    assert not (tmp_path / "a.t2d").exists()
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "interrupted; nothing is saved: " in err and "bytes; expected 60 at most" in err
    stopped(1)
    assert cli.main([*command, "--target-bytes", "20000"]) == 130
    assert (tmp_path / "a.t2d").exists()
    out, err = capsys.readouterr()
    assert err == "taichi2dgs: interrupted; what was there is saved\n" and "PSNR" in out


def started(*command: object, cwd) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_ends_a_loop_over_encode(tmp_path, photograph):
    files.write_image(tmp_path / "a.png", photograph[:24, :30])
    process = started(
        "-c",
        """
import taichi2dgs as t2
t2.encode("a.png", 20, steps=1, start="random")
print("begun", flush=True)
for number in range(3):
    t2.encode("a.png", 20, seconds=30, start="random").save(f"{number}.t2d")
""",
        cwd=tmp_path,
    )
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=25)
    assert process.returncode != 0 and "FitInterrupted: after step " in err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_ctrl_c_in_a_finaliser_comes_after_it(tmp_path):
    """Python would print that it ignores it, and go on."""
    process = started(
        "-c",
        """
import signal
import time
from taichi2dgs import runtime

class Dropped:
    def __init__(self, call):
        self.call = call

    def __del__(self):
        self.call()

runtime.init()
runtime.sync()
Dropped(lambda: 1 / 0)  # any other error is still only told
try:
    Dropped(lambda: signal.raise_signal(signal.SIGINT))
    time.sleep(20)
except KeyboardInterrupt:
    print("came")
""",
        cwd=tmp_path,
    )
    out, err = process.communicate(timeout=60)
    assert out == "came\n" and "ZeroDivisionError" in err and "KeyboardInterrupt" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_ends_a_folder_with_what_is_finished(tmp_path, photograph):
    """Of small pictures, those of as many channels are fitted together: here the first is alone."""
    (tmp_path / "in").mkdir()
    for name, channels in zip("abc", (1, 3, 3), strict=True):
        image = photograph[:24, :30, :channels]
        files.write_image(tmp_path / "in" / f"{name}.png", image)
    process = started(
        "-c",
        """
from pipelines import cli, plan
plan.LOST = 2  # so that there is one picture at a time
raise SystemExit(cli.main("encode in -o out -k 20 --seconds 2 --start random".split()))
""",
        cwd=tmp_path,
    )
    while not (tmp_path / "out" / "a.t2d").exists():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=25)
    assert process.returncode == 130, err
    assert "1 encoded, 0 were there, 0 failed" in out
    assert [path.name for path in (tmp_path / "out").glob("*.t2d")] == ["a.t2d"]


def test_ctrl_c_in_training_keeps_no_unfinished_targets(tmp_path, photograph, monkeypatch):
    (tmp_path / "data").mkdir()
    for index in range(6):
        files.write_image(tmp_path / "data" / f"{index}.png", photograph[:, index : index + 96])
    made = []

    def stopped(*arguments, **more):
        made.append(fit_batch(*arguments, **more))
        if len(made) == 2:
            raise FitInterrupted(made[-1])
        return made[-1]

    monkeypatch.setattr(position, "fit_batch", stopped)
    monkeypatch.setattr(position, "AT_ONCE", 1)
    command = [
        "train",
        "position",
        "--data",
        tmp_path / "data",
        "--config",
        SMOKE,
        "--out",
        tmp_path / "run",
        "-q",
    ]
    assert cli.main([*map(str, command)]) == 130
    assert len(made) == 2 and len(list((tmp_path / "run").rglob("*.npy"))) == 1


def test_ctrl_c_in_a_method_of_others_raises_with_what_is_there(photograph):
    image = photograph[:24, :30]

    def interrupt(report):
        raise KeyboardInterrupt

    with pytest.raises(FitInterrupted) as raised:
        baselines.run(image, 20, baselines.load("image-gs-gradient"), steps=5, on_report=interrupt)
    result = raised.value.result
    seen = metrics.psnr(result.gaussians.render(), image)
    assert result.history[-1].psnr == pytest.approx(seen, abs=1e-3)
