"""Fits in which the number of Gaussians changes: see fitting/respawn.py and fit_counted."""

import pytest
import torch

import pipelines
from taichi2dgs import FitInterrupted, FitOptions, RenderSettings, metrics
from taichi2dgs import fit as fit_function
from taichi2dgs.fitting import heirs, respawn
from taichi2dgs.fitting.engine import Engine
from taichi2dgs.fitting.fit import fit_counted
from taichi2dgs.fitting.job import Job
from taichi2dgs.fitting.picture import Picture

# Nothing moves, but for those that come and go.
STILL = FitOptions(xy=0, log_scale=0, theta=0, color=0, respawn=1e-9)


@pytest.fixture
def running(photograph):
    """A fit of 300 Gaussians after 30 steps."""
    start = pipelines.initialize(photograph, 300, "gradient")
    pictures = [Picture(photograph, start.packed())]
    engine = Engine(pictures, FitOptions(settings=start.settings))
    for number in range(1, 31):
        engine.step(number, 0.5)
    engine.poll()
    return engine


def averages(engine) -> torch.Tensor:
    """Both averages of Adam's. [N, 2, 5 + C]"""
    both = (engine.exp_avg, engine.exp_avg_sq)
    return torch.stack([torch.from_numpy(one.to_numpy()) for one in both], 1)


def test_those_that_cost_most_stay_with_their_averages(running):
    params, moments, costs = running.params, averages(running), running.removal()[0].cpu()
    running = heirs.resized(running, [120])
    kept = running.pictures[0].places  # its own order was that of the start
    assert len(kept) == 120 and set(kept.tolist()) == set(costs.argsort()[-120:].tolist())
    assert torch.equal(running.params, params[kept])
    assert torch.equal(averages(running), moments[kept])
    assert running.done == 30
    running.step(31, 0.5)
    while not running.poll():
        running.step(31, 0.5)
    assert running.done == 31 and not torch.equal(running.params, params[kept])


def test_those_that_come_are_set_down_at_the_worst_pixels(running, photograph):
    params, moments = running.params, averages(running)
    errors = running.removal()[1][0].square().sum(2).cpu()
    running = heirs.resized(running, [340])
    places = running.pictures[0].places
    new = places >= 300
    assert sorted(places.tolist()) == list(range(340))
    assert torch.equal(running.params[~new], params[places[~new]])
    assert torch.equal(averages(running)[~new], moments[places[~new]])
    assert not averages(running)[new].any()
    x, y = (running.params[new, :2] - 0.5).long().T
    expected = respawn.worst_pixels(errors, 40)[1]
    assert set((y * 128 + x).tolist()) == set(expected.tolist())
    assert torch.equal(running.params[new, 5:], photograph[y, x])


def test_frozen_gaussians_stay_whatever_the_others_cost(photograph):
    start = pipelines.initialize(photograph, 100, "gradient")
    frozen = torch.arange(100) % 4 == 0
    options = FitOptions(settings=start.settings)
    engine = heirs.resized(Engine([Picture(photograph, start.packed(), frozen)], options), [40])
    assert set(torch.arange(0, 100, 4).tolist()) <= set(engine.pictures[0].places.tolist())
    engine = heirs.resized(engine, [60])
    places = engine.pictures[0].places
    for number in range(1, 6):
        engine.step(number, 1.0)
    while not engine.poll():
        engine.step(engine.done + 1, 1.0)
    old = places < 100
    still = (engine.params[old] == start.packed()[places[old]]).all(1)
    assert torch.equal(still, frozen[places[old]])


def test_results_have_those_that_stay_in_their_order_and_then_those_that_came(photograph):
    start = pipelines.initialize(photograph, 200, "random")
    fewer = fit_counted(photograph, start, lambda used, _: 200 if used < 0.3 else 150,
                        steps=10, options=STILL).gaussians  # fmt: skip
    which = [bool((start.packed() == row).all(1).any()) for row in fewer.packed()]
    assert len(fewer) == 150 and all(which)
    places = [int((start.packed() == row).all(1).nonzero()[0]) for row in fewer.packed()]
    assert places == sorted(places)
    more = fit_counted(photograph, start, lambda *_: 260, steps=10, options=STILL).gaussians
    assert len(more) == 260 and torch.equal(more[:200].packed(), start.packed())
    plain = fit_counted(photograph, start, lambda *_: 200, steps=10)
    same = fit_function(photograph, start, steps=10)
    assert torch.equal(plain.gaussians.packed(), same.gaussians.packed())


def test_the_number_is_asked_for_before_the_first_step_and_at_every_moment(photograph):
    image = photograph[:40, :40].contiguous()
    start, asked = pipelines.initialize(image, 60, "gradient"), []

    def count(used, report):
        seen = metrics.psnr(report.gaussians.render(), image)
        asked.append((used, report.step, len(report.gaussians), report.psnr - seen))
        return 60 + 10 * len(asked)

    result = fit_counted(image, start, count, steps=20)
    assert [one[:3] for one in asked] == [
        (0.0, 0, 60), (0.1, 2, 70), (0.2, 4, 80), (0.3, 6, 90), (0.4, 8, 100), (0.5, 10, 110),
    ]  # fmt: skip
    assert all(abs(one[3]) < 1e-3 for one in asked) and len(result.gaussians) == 120
    steps = [report.step for report in result.history]
    assert steps == sorted(set(steps)) and steps[-1] == 20
    assert result.psnr == pytest.approx(metrics.psnr(result.gaussians.render(), image), abs=1e-3)


@pytest.mark.parametrize("after", [False, True])
def test_ctrl_c_while_gaussians_come_leaves_all_old_or_all_new_ones(photograph, monkeypatch, after):
    def interrupt(*_):
        raise KeyboardInterrupt

    if after:
        monkeypatch.setattr(Job, "resize", interrupt)
    else:
        monkeypatch.setattr(heirs, "heir", interrupt)
    start = pipelines.initialize(photograph, 200, "gradient")
    with pytest.raises(FitInterrupted) as stopped:
        fit_counted(photograph, start, lambda used, _: 200 if used < 0.3 else 300, steps=20)
    result = stopped.value.result
    assert len(result.gaussians) == (300 if after else 200)
    assert [report.step for report in result.history] == [*range(7)]
    seen = metrics.psnr(result.gaussians.render(), photograph)
    assert result.psnr == pytest.approx(seen, abs=1e-3)


@pytest.mark.parametrize("share", [0.8, 1.6])
def test_a_fit_that_grew_or_shrank_is_as_good_as_one_from_its_start(photograph, share):
    plain = fit_function(photograph, pipelines.initialize(photograph, 600), steps=80)
    start = pipelines.initialize(photograph, round(600 * share))
    made = fit_counted(photograph, start, lambda used, _: 600 if used else len(start), steps=80)
    assert len(made.gaussians) == 600 and made.psnr > plain.psnr - 0.3  # 0.23 was seen


@pytest.mark.parametrize("blend", ["normalized", "sum"])
@pytest.mark.parametrize("options", [{}, {"between": 0.5}, {"reselect": 3}])
def test_numbers_change_in_every_kind_of_fit(photograph, blend, options):
    image = photograph[:40, :50].contiguous()
    settings = RenderSettings(blend=blend)
    start = pipelines.initialize(image, 100, "gradient").replace(settings=settings)
    numbers = [100, 150, 40, 41, 2000, 1]
    for steps in (6, 30):
        left = iter(numbers)
        result = fit_counted(image, start, lambda *_: next(left), steps=steps,  # noqa: B023
                             options=FitOptions(**options))  # fmt: skip
        assert result.gaussians.packed().isfinite().all()
        left = iter(numbers)
        again = fit_counted(image, start, lambda *_: next(left), steps=steps,  # noqa: B023
                            options=FitOptions(**options))  # fmt: skip
        assert torch.equal(again.gaussians.packed(), result.gaussians.packed())


@pytest.mark.parametrize("size", [(3, 5), (1, 1)])
def test_constant_pictures_and_single_gaussians_are_no_trouble(size):
    image, most = torch.full((*size, 3), 0.5), size[0] * size[1]
    start = pipelines.initialize(image, 1, "gradient")
    result = fit_counted(image, start, lambda used, _: most if used < 0.3 else 1, steps=10)
    assert len(result.gaussians) == 1 and result.gaussians.packed().isfinite().all()
