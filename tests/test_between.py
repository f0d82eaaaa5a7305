"""Fits that look between the pixels: see fitting/between.py."""

import math

import pytest
import torch

import pipelines
from taichi2dgs import FitInterrupted, FitOptions, Gaussians, RenderSettings, metrics
from taichi2dgs import fit as fit_function
from taichi2dgs.fitting import between, run
from taichi2dgs.fitting.engine import Engine
from taichi2dgs.fitting.picture import Picture

STILL = dict.fromkeys(("xy", "log_scale", "theta", "color", "respawn"), 0.0)  # nothing moves


def test_a_share_of_the_steps_sees_each_phase_in_turn():
    phases = [between.phase_of(n, 0.25) for n in range(1, 21)]
    assert [n for n, phase in enumerate(phases, 1) if phase is not None] == [4, 8, 12, 16, 20]
    assert [phase for phase in phases if phase is not None] == [1, 2, 3, 0, 1]
    assert {between.phase_of(n, 0.0) for n in range(-1, 50)} == {None}
    assert None not in {between.phase_of(n, 1.0) for n in range(1, 50)}
    assert between.phase_of(0, 1.0) is None  # no step: what measures
    assert between.phase_of(4, 0.25, 0.21) == 1 and between.phase_of(4, 0.25, 0.19) is None


def test_phases_of_a_ramp_are_a_quarter_of_a_pixel_away():
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(15.0), indexing="ij")
    ramp = torch.stack([x, y], 2) / 20
    inner = (slice(4, -4), slice(4, -4))
    for phase, seen in enumerate(between.phases(ramp)):
        move = torch.tensor(between.offset_of(phase))  # of Gaussians: of the picture, too
        assert torch.allclose(seen[inner], ramp[inner] - move / 20, atol=2e-3)


@pytest.mark.parametrize("phase", range(4))
def test_a_step_sees_what_a_moved_picture_shows(photograph, phase):
    """The step's own measure is that of Gaussians moved by hand against the phase."""
    image = photograph[:33, :41].contiguous()
    start = pipelines.initialize(image, 150, "gradient")
    options = FitOptions(settings=start.settings, between=1.0, **STILL)
    engine = Engine([Picture(image, start.packed())], options)
    number = next(n for n in range(1, 9) if between.phase_of(n, 1.0) == phase)
    for done in range(1, number + 1):
        engine.step(done, 1.0)
    engine.poll()
    assert engine.phase == phase
    moved = start.replace(xy=start.xy + torch.tensor(between.offset_of(phase)))
    expected = metrics.psnr(moved.render(), between.phases(image)[phase].clamp(0, 1))
    (seen,) = engine.psnrs()
    assert seen == pytest.approx(expected, abs=0.02)  # phases overshoot, renders may not
    assert torch.equal(engine.params, start.packed())  # nothing was moved
    engine.score()
    assert engine.psnrs()[0] == pytest.approx(metrics.psnr(start.render(), image), abs=1e-3)


def test_ctrl_c_in_a_step_between_the_pixels_leaves_gaussians_where_they_are(
    photograph, monkeypatch
):
    """Whatever a step launches beside its kernel, nothing has to be undone after it."""
    image = photograph[:33, :41].contiguous()
    start = pipelines.initialize(image, 150, "gradient")
    launch = Engine._launch

    def interrupted(engine, number, rate, selects, phase=None):
        step = engine.work.step

        def stopping(**arguments):
            step(**arguments)
            raise KeyboardInterrupt

        if number:
            monkeypatch.setattr(engine.work, "step", stopping)
        try:
            launch(engine, number, rate, selects, phase)
        finally:
            engine.work.step = step

    monkeypatch.setattr(Engine, "_launch", interrupted)
    still = FitOptions(between=1.0, **STILL)
    with pytest.raises(FitInterrupted) as stopped:
        fit_function(image, start, steps=9, options=still)
    assert torch.equal(stopped.value.result.gaussians.packed(), start.packed())
    seen = metrics.psnr(start.render(), image)  # whose order, and so its ties, are others
    assert stopped.value.result.psnr == pytest.approx(seen, abs=0.01)


def test_a_fit_between_the_pixels_shows_more_where_it_is_enlarged(photograph):
    """Against the picture of twice the size, of which the fit has seen half."""
    whole = photograph[:96, :96]
    half = whole.reshape(48, 2, 48, 2, 3).mean((1, 3)).contiguous()
    start = pipelines.initialize(half, 440, "gradient")
    plain, looked = (
        fit_function(half, start, steps=120, options=FitOptions(between=share)).gaussians
        for share in (0.0, 0.1)
    )
    enlarged = [metrics.psnr(fitted.render(scale=2), whole) for fitted in (plain, looked)]
    assert enlarged[1] > enlarged[0] + 0.3


def test_room_that_only_a_step_between_the_pixels_lacks_is_made(monkeypatch):
    """Narrow Gaussians that reach another column of tiles when they are seen further right."""
    launches, step = [], Engine.steps

    def counted(engine, number, fractions):
        launches.append(len(fractions))
        assert len(launches) < 20
        step(engine, number, fractions)

    monkeypatch.setattr(Engine, "steps", counted)
    monkeypatch.setattr(run, "LAUNCH_SECONDS", 10.0)  # many steps at once, however slow they are
    n = 200
    xy = torch.stack([torch.full((n,), 15.6), torch.linspace(1, 15, n)], 1)
    zeros = torch.zeros(n)
    settings = RenderSettings(cutoff=3.0)
    g = Gaussians(
        xy, torch.full((n, 2), math.log(0.25)), zeros, torch.rand(n, 3), (16, 32), settings
    )
    options = FitOptions(between=0.1, report_every=100, **STILL)
    result = fit_function(torch.rand(16, 32, 3), g, steps=41, options=options)
    assert result.history[-1].step == 41 and max(launches) > 2


def test_reports_are_of_the_pixels_whatever_a_step_sees(photograph):
    image = photograph[:40, :40].contiguous()
    start = pipelines.initialize(image, 150, "gradient")
    seen = []
    result = fit_function(
        image, start, steps=12, options=FitOptions(between=0.5, report_every=1),
        on_report=lambda report: seen.append((report, report.gaussians)),
    )  # fmt: skip
    assert result.psnr == pytest.approx(metrics.psnr(result.gaussians.render(), image), abs=1e-3)
    steps = [report.step for report in result.history]
    assert steps == sorted(set(steps)) and steps[-1] == 12
    for report, gaussians in seen:
        near = metrics.psnr(gaussians.render(), image)  # at most a step later
        assert report.psnr == pytest.approx(near, abs=1.5)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, "half", None])
def test_a_bad_share_is_named(value):
    with pytest.raises(ValueError, match="between"):
        FitOptions(between=value)
