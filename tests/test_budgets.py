"""Budgets of a fit, its reports and targets, and Ctrl-C at every level that passes it on."""

import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from conftest import environment

import pipelines
from pipelines import cli, encoding
from pipelines.encoding import Encoding
from taichi2dgs import FitInterrupted, FitOptions, files, metrics, t2d, workspace
from taichi2dgs import fit as fit_function
from taichi2dgs.engine import Engine
from taichi2dgs.workspace import Workspace


def test_seconds_are_kept_and_the_schedule_ends(photograph):
    reports = []
    result = fit_function(
        photograph,
        pipelines.initialize(photograph, 500, "gradient"),
        seconds=0.6,
        on_report=reports.append,
    )
    assert reports == result.history and len(reports) > 3
    # One step may overrun by half its length; 3 s would mean that the compiler was on the clock.
    assert 0.3 < result.history[-1].seconds < 3
    assert result.history[-1].psnr > result.history[0].psnr


def test_callbacks_do_not_use_up_the_seconds(photograph):
    start = pipelines.initialize(photograph, 200, "gradient")
    began = time.perf_counter()
    result = fit_function(photograph, start, seconds=1.0, on_report=lambda report: time.sleep(0.3))
    awake = time.perf_counter() - began - 0.3 * len(result.history)
    assert 0.5 < result.history[-1].seconds <= awake  # else it would be longer by the sleep


def test_target_psnr_stops_early(photograph):
    start = pipelines.initialize(photograph, 2000, "gradient")
    result = fit_function(
        photograph, start, steps=500, target_psnr=28, options=FitOptions(report_every=5)
    )
    assert result.history[-1].step < 500 and result.history[-1].psnr >= 28


def test_what_reaches_its_target_is_returned_as_it_came(photograph):
    """Also Gaussians that one step at the full rate would spoil."""
    start = fit_function(
        photograph, pipelines.initialize(photograph, 1000, "gradient"), steps=60
    ).gaussians
    for budget in ({"steps": 100}, {"seconds": 60}):
        result = fit_function(photograph, start, target_psnr=20, **budget)
        assert [report.step for report in result.history] == [0]
        assert torch.equal(result.gaussians.packed(), start.packed())


@pytest.mark.parametrize("budget", [{"steps": 400}, {"seconds": 30}, {"steps": 400, "seconds": 30}])
def test_what_is_returned_for_a_target_is_what_was_measured(photograph, budget):
    start = pipelines.initialize(photograph, 800, "gradient")
    result = fit_function(photograph, start, target_psnr=26, **budget)
    last = result.history[-1]
    assert 0 < last.step < 400 and last.psnr >= 26 > result.history[-2].psnr
    seen = metrics.psnr(result.gaussians.render(), photograph)
    assert last.psnr == pytest.approx(seen, abs=2e-4)  # one more step moves it by a hundredth


def test_a_target_out_of_reach_changes_nothing(photograph, backend):
    if backend != "cpu":
        pytest.skip("float atomics on a GPU add in any order")
    start = pipelines.initialize(photograph, 800, "gradient")
    plain = fit_function(photograph, start, steps=40)
    aimed = fit_function(photograph, start, steps=40, target_psnr=90)
    assert torch.equal(aimed.gaussians.packed(), plain.gaussians.packed())
    for one, other in zip(aimed.history, plain.history, strict=True):
        assert one.step == other.step and one.psnr == pytest.approx(other.psnr, abs=1e-4)


def test_with_both_budgets_reports_follow_what_runs_out_first(photograph):
    start = pipelines.initialize(photograph, 500, "gradient")
    result = fit_function(photograph, start, steps=10**7, seconds=0.6)
    assert len(result.history) > 3 and result.history[-1].step < 10**7
    began = time.perf_counter()
    stopped = fit_function(photograph, start, steps=10**7, seconds=60, target_psnr=22)
    assert stopped.history[-1].psnr >= 22 and time.perf_counter() - began < 30
    few = fit_function(photograph, start, steps=40, seconds=600)
    assert [report.step for report in few.history] == [*range(0, 41, 2)]


def test_the_rate_falls_to_nothing_under_either_budget(photograph, monkeypatch):
    """One cosine, whether steps or seconds measure it."""
    rates = []
    step = Engine.step

    def noted(self, number, rate):
        if number:
            rates.append(rate)
        step(self, number, rate)

    monkeypatch.setattr(Engine, "step", noted)
    start = pipelines.initialize(photograph, 200, "gradient")
    for budget in ({"steps": 40}, {"seconds": 1.0}, {"steps": 10**7, "seconds": 1.0}):
        rates.clear()
        fit_function(photograph, start, **budget)
        assert rates[0] > 0.99 and rates[-1] < 0.1, budget


def test_reports_come_at_the_steps_asked_for(photograph):
    result = fit_function(
        photograph, pipelines.initialize(photograph, 200, "gradient"), steps=23,
        options=FitOptions(report_every=10),
    )  # fmt: skip
    assert [report.step for report in result.history] == [0, 10, 20, 23]
    none = fit_function(photograph, result.gaussians, steps=0)
    assert [report.step for report in none.history] == [0]
    assert torch.equal(none.gaussians.packed(), result.gaussians.packed())


def test_ctrl_c_raises_with_what_is_there(photograph):
    start = pipelines.initialize(photograph, 500, "gradient")
    timer = threading.Timer(0.0, lambda: None)

    def interrupt(report):
        nonlocal timer
        if report.step == 0:
            timer = threading.Timer(0.2, signal.raise_signal, [signal.SIGINT])
            timer.start()

    with pytest.raises(FitInterrupted) as raised:
        fit_function(photograph, start, seconds=60, on_report=interrupt)
    assert isinstance(raised.value, KeyboardInterrupt)
    result = raised.value.result
    assert 0 < result.history[-1].seconds < 30
    assert result.history[-1].psnr > result.history[0].psnr
    seen = metrics.psnr(result.gaussians.render(), photograph)
    assert result.history[-1].psnr == pytest.approx(seen, abs=1e-3)


def test_ctrl_c_at_any_place_leaves_a_measured_result(photograph, monkeypatch):
    """While lists grow, and while the last report is made: what is there is whole."""
    start = pipelines.initialize(photograph, 800, "gradient")
    start.log_scale.sub_(1.5)
    reserve, asked = Workspace.reserve, []

    def interrupted(self, capacity):
        reserve(self, capacity)
        asked.append(capacity)
        if len(asked) == 4:  # between one list and the next: the others are as short as before
            self.hits = workspace.runtime.array("i32", (1,))
            raise KeyboardInterrupt

    monkeypatch.setattr(workspace, "SPARE", 1.0)
    monkeypatch.setattr(Workspace, "reserve", interrupted)
    with pytest.raises(FitInterrupted) as raised:
        fit_function(photograph, start, steps=12)
    result = raised.value.result
    seen = metrics.psnr(result.gaussians.render(), photograph)
    assert result.history[-1].psnr == pytest.approx(seen, abs=1e-3)

    def at_the_end(report):
        if report.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(FitInterrupted) as raised:
        fit_function(photograph, start, steps=3, on_report=at_the_end)
    assert raised.value.result.history[-1].step == 3


def test_a_second_ctrl_c_ends_at_once(photograph, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    start = pipelines.initialize(photograph, 50, "gradient")
    monkeypatch.setattr(Engine, "recover", interrupt)
    with pytest.raises(KeyboardInterrupt) as raised:
        fit_function(photograph, start, steps=3, on_report=interrupt)
    assert raised.type is KeyboardInterrupt


@pytest.fixture
def stopped(monkeypatch):
    """Have Ctrl-C come in the n-th fit of a search; what was there is as good as finished."""

    def at(number: int, inside: bool = True) -> list:
        made = []

        def fake(*arguments, **more):
            if len(made) + 1 == number and not inside:
                raise KeyboardInterrupt
            made.append(fit_function(*arguments, **more))
            if len(made) == number:
                raise FitInterrupted(made[-1])
            return made[-1]

        monkeypatch.setattr(encoding, "fit", fake)
        return made

    return at


@pytest.mark.parametrize("inside", [True, False])
def test_an_interrupted_search_has_its_finished_fit(photograph, stopped, inside):
    made = stopped(2, inside)
    with pytest.raises(FitInterrupted) as raised:
        Encoding(target_psnr=60, steps=2, init="random").run(photograph[:24, :30])
    assert raised.value.result is made[0] and len(made) == 1 + inside


@pytest.mark.parametrize("target", [{"target_psnr": 60}, {"target_bytes": 300}, {"k": 20}])
def test_an_interrupted_first_fit_has_what_was_there(photograph, stopped, target):
    made = stopped(1)
    with pytest.raises(FitInterrupted) as raised:
        Encoding(**target, steps=2, init="random").run(photograph[:24, :30])
    assert raised.value.result is made[0]
    stopped(1, inside=False)
    with pytest.raises(KeyboardInterrupt) as plain:
        Encoding(**target, steps=2, init="random").run(photograph[:24, :30])
    assert plain.type is KeyboardInterrupt


@pytest.mark.parametrize(("each", "number"), [(2.0, 3), (100.0, 2)])
def test_an_interrupted_search_of_bytes_has_what_keeps_within(
    photograph, stopped, monkeypatch, each, number
):
    """The finished fit if that is small enough; otherwise the unfinished one, if that is."""
    monkeypatch.setitem(encoding.BYTES_EACH, "high", each)  # so the first is too large, or small
    made = stopped(number)
    with pytest.raises(FitInterrupted) as raised:
        Encoding(target_bytes=1500, steps=2, init="random").run(photograph[:48, :60])
    *sizes, last = [len(t2d.encode(result.gaussians, "high")) for result in made]
    if each == 2:
        assert min(sizes) > 1500 >= last and raised.value.result is made[-1]
    else:
        assert max(sizes) <= 1500 and raised.value.result is made[0]


def test_an_interrupted_command_saves_only_what_keeps_within_the_bytes(
    tmp_path, photograph, stopped, capsys
):
    files.write_image(tmp_path / "a.png", photograph[:24, :30])
    command = ["encode", str(tmp_path / "a.png"), "-o", str(tmp_path / "a.t2d"), "--steps", "2",
               "--init", "random", "-q"]  # fmt: skip
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
        [sys.executable, *map(str, command)], cwd=cwd, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_ends_a_loop_over_encode(tmp_path, photograph):
    files.write_image(tmp_path / "a.png", photograph[:24, :30])
    process = started("-c", """
import taichi2dgs as t2
t2.encode("a.png", 20, steps=1, init="random")
print("begun", flush=True)
for number in range(3):
    t2.encode("a.png", 20, seconds=30, init="random").save(f"{number}.t2d")
""", cwd=tmp_path)  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=25)
    assert process.returncode != 0 and "FitInterrupted: after step " in err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_ends_a_folder_with_what_is_finished(tmp_path, photograph):
    (tmp_path / "in").mkdir()
    for name in "abc":
        files.write_image(tmp_path / "in" / f"{name}.png", photograph[:24, :30])
    process = started(
        "-m", "pipelines.cli", "encode", "in", "-o", "out", "-k", 20, "--seconds", 2,
        "--init", "random", cwd=tmp_path,
    )  # fmt: skip
    while not (tmp_path / "out" / "a.t2d").exists():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=25)
    assert process.returncode == 130 and "1 encoded, 0 were there, 0 failed" in out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.t2d"]
