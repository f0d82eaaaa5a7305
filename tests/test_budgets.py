"""Budgets of a fit, its reports and targets, and Ctrl-C in one."""

import math
import signal
import threading
import time

import pytest
import torch

import pipelines
from pipelines import defaults
from taichi2dgs import FitInterrupted, FitOptions, metrics, runtime
from taichi2dgs import fit as fit_function
from taichi2dgs.fitting.budget import Budget
from taichi2dgs.fitting.engine import Engine
from taichi2dgs.rendering import workspace
from taichi2dgs.rendering.workspace import Workspace


def small(photograph):
    """A part whose steps are short on any device, so that clocks can be tested."""
    return photograph[:32, :40].contiguous()


def test_seconds_are_kept_and_the_schedule_ends(photograph, watch):
    """The compiler's seconds do not count; no step begins of which most would be over."""
    reports, image = [], small(photograph)
    start = pipelines.initialize(image, 60, "gradient")
    result = fit_function(image, start, seconds=0.594, on_report=reports.append)
    assert reports == result.history and len(reports) > 3
    assert result.history[-1].step == 59 and result.seconds == pytest.approx(0.59)
    assert result.history[-1].psnr > result.history[0].psnr


def test_starts_are_for_the_usual_fit_on_cores_if_nothing_is_said(monkeypatch):
    monkeypatch.setattr(runtime, "is_gpu", lambda: False)
    assert Budget(seconds=defaults.SECONDS).foreseen == defaults.STEPS


@pytest.mark.parametrize(("on_gpu", "steps"), [(False, 5), (True, 125)])
def test_starts_of_seconds_are_for_as_many_steps_as_the_device_makes(monkeypatch, on_gpu, steps):
    """Drawn for 5 steps, and so by the heat itself, a fit of 500 ends 1.2 dB lower."""
    monkeypatch.setattr(runtime, "is_gpu", lambda: on_gpu)
    assert Budget(seconds=0.25).foreseen == steps
    assert Budget(seconds=0.25, steps=3).foreseen == 3


def test_seconds_are_those_of_a_clock(photograph):
    """However slow the machine is: 20 ms is when a fit looks at the clock, if steps allow it."""
    image = small(photograph)
    start = pipelines.initialize(image, 60, "gradient")
    began = time.perf_counter()
    result = fit_function(image, start, seconds=0.5)
    assert 0.1 < result.seconds < time.perf_counter() - began


def test_callbacks_do_not_use_up_the_seconds(photograph, watch):
    start = pipelines.initialize(photograph, 200, "gradient")
    result = fit_function(photograph, start, seconds=0.5, on_report=lambda _: watch.sleep(9))
    assert result.history[-1].step == 50 and result.seconds == pytest.approx(0.5)


def test_target_psnr_stops_early(photograph):
    start = pipelines.initialize(photograph, 2000, "gradient")
    result = fit_function(
        photograph, start, steps=500, target_psnr=28, options=FitOptions(report_every=5)
    )
    assert result.history[-1].step < 500 and result.history[-1].psnr >= 28


def test_what_reaches_its_target_is_returned_as_it_came(photograph):
    """That holds for Gaussians that a single step at the full rate would spoil."""
    start = fit_function(
        photograph, pipelines.initialize(photograph, 1000, "gradient"), steps=60
    ).gaussians
    for budget in ({"steps": 100}, {"seconds": 60}):
        result = fit_function(photograph, start, target_psnr=20, **budget)
        assert [report.step for report in result.history] == [0]
        assert torch.equal(result.gaussians.packed(), start.packed())


def test_a_report_reads_the_gaussians_while_it_is_called(photograph):
    image = photograph[:16, :24].contiguous()
    start = pipelines.initialize(image, 30, "random")
    seen = []
    result = fit_function(image, start, steps=8, on_report=lambda r: seen.append((r, r.gaussians)))
    assert torch.equal(seen[0][1].packed(), start.packed())
    assert torch.equal(seen[-1][1].packed(), result.gaussians.packed())
    assert result.psnr == result.history[-1].psnr and seen[0][0] == result.history[0]
    with pytest.raises(ValueError, match="ask within on_report"):
        _ = result.history[0].gaussians


@pytest.mark.parametrize("budget", [{"steps": 400}, {"seconds": 30}, {"steps": 400, "seconds": 30}])
def test_what_is_returned_for_a_target_is_what_was_measured(photograph, budget):
    start = pipelines.initialize(photograph, 800, "gradient")
    result = fit_function(photograph, start, target_psnr=26, **budget)
    last = result.history[-1]
    assert 0 < last.step < budget.get("steps", math.inf)  # a report may come after many steps
    assert last.psnr >= 26 > result.history[-2].psnr
    seen = metrics.psnr(result.gaussians.render(), photograph)
    assert last.psnr == pytest.approx(seen, abs=2e-4)  # one more step moves it by a hundredth


def test_a_target_out_of_reach_changes_nothing(photograph):
    start = pipelines.initialize(photograph, 800, "gradient")
    plain = fit_function(photograph, start, steps=40)
    aimed = fit_function(photograph, start, steps=40, target_psnr=90)
    assert torch.equal(aimed.gaussians.packed(), plain.gaussians.packed())
    for one, other in zip(aimed.history, plain.history, strict=True):
        assert one.step == other.step and one.psnr == pytest.approx(other.psnr, abs=1e-4)


def test_with_both_budgets_reports_follow_what_runs_out_first(photograph, watch):
    image = small(photograph)
    start = pipelines.initialize(image, 60, "gradient")
    result = fit_function(image, start, steps=10**7, seconds=0.5)
    assert len(result.history) > 3 and result.history[-1].step == 50
    target = result.history[0].psnr + 1
    stopped = fit_function(image, start, steps=10**7, seconds=2, target_psnr=target)
    assert stopped.psnr >= target and 0 < stopped.history[-1].step < 200
    few = fit_function(image, start, steps=40, seconds=600)
    assert [report.step for report in few.history] == [*range(0, 41, 2)]


def test_the_rate_falls_to_nothing_under_either_budget(photograph, monkeypatch, watch):
    """Learning rates follow one cosine, whether steps or seconds measure the budget."""
    rates = []
    steps = Engine.steps

    def noted(self, number, fractions):
        if number:
            rates.extend(fractions)
        steps(self, number, fractions)

    monkeypatch.setattr(Engine, "steps", noted)
    image = small(photograph)
    start = pipelines.initialize(image, 60, "gradient")
    for budget in ({"steps": 40}, {"seconds": 0.4}, {"steps": 10**7, "seconds": 0.4}):
        rates.clear()
        fit_function(image, start, **budget)
        assert rates[0] > 0.99 and rates[-1] < 0.1, budget


def test_reports_come_at_the_steps_asked_for(photograph):
    result = fit_function(
        photograph,
        pipelines.initialize(photograph, 200, "gradient"),
        steps=23,
        options=FitOptions(report_every=10),
    )
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
    """Ctrl-C may come while lists grow, or while the last report is made."""
    start = pipelines.initialize(photograph, 800, "gradient")
    start.log_scale.sub_(1.5)
    reserve, asked = Workspace.reserve, []

    def interrupted(self, capacity):
        reserve(self, capacity)
        asked.append(capacity)
        if len(asked) == 4:  # one list has grown, the others have not
            self.entries = workspace.runtime.array("i32", (1,))
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
