"""Selections that are kept for some steps of a fit: `FitOptions(reselect=)`."""

import dataclasses
import math

import pytest
import torch
from conftest import scatter

import pipelines
import taichi2dgs
from taichi2dgs import FitOptions, Gaussians, RenderSettings, runtime
from taichi2dgs.fitting.engine import SETTLED, Engine
from taichi2dgs.fitting.picture import Picture
from taichi2dgs.rendering import workspace

NAMES = ("xy", "log_scale", "theta", "color")


@pytest.fixture(autouse=True)
def needs_cores(backend):
    if backend != "cpu":
        pytest.skip("kernels for GPUs select in every step")


def engine_of(gaussians: Gaussians, image: torch.Tensor, **options) -> Engine:
    chosen = FitOptions(settings=gaussians.settings, **options)
    return Engine([Picture(image, gaussians.packed())], chosen)


def squares(g: dict, height: int, width: int) -> torch.Tensor:
    """Squared Mahalanobis distance of each pixel from each Gaussian. [P, N]"""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    points = torch.stack([columns.reshape(-1), rows.reshape(-1)], 1).double() + 0.5
    d = points[:, None] - g["xy"][None]
    co, si = g["theta"].cos(), g["theta"].sin()
    along, across = d[..., 0] * co + d[..., 1] * si, d[..., 1] * co - d[..., 0] * si
    scales = g["log_scale"].exp()
    return (along / scales[:, 0]).square() + (across / scales[:, 1]).square()


def chosen(q: torch.Tensor, settings: RenderSettings) -> torch.Tensor:
    """Which Gaussians each pixel blends. bool [P, N]"""
    nearest = q.argsort(dim=1, stable=True)[:, : settings.top_k]
    mask = torch.zeros_like(q, dtype=torch.bool).scatter_(1, nearest, True)
    return mask & (q <= settings.cutoff**2)


def by_torch(image, gaussians: Gaussians, steps: int, options: FitOptions) -> dict:
    """The same fit by autograd, torch's Adam, and masks that are made anew now and then."""
    leaves = {n: getattr(gaussians, n).double().requires_grad_() for n in NAMES}
    adam = torch.optim.Adam(
        [{"params": [leaf], "name": name} for name, leaf in leaves.items()],
        lr=1.0, betas=(options.beta1, options.beta2), eps=options.epsilon,
    )  # fmt: skip
    mask = torch.empty(0)
    for step in range(steps):
        cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in adam.param_groups:
            group["lr"] = getattr(options, group["name"]) * cosine
        adam.zero_grad()
        q = squares(leaves, *gaussians.size)
        if step % options.reselect == 0 or cosine > SETTLED:
            mask = chosen(q.detach(), options.settings)
        w = torch.exp(-q / 2) * mask
        out = w @ leaves["color"] / (w.sum(1, keepdim=True) + options.settings.eps)
        (0.5 * (out - image.reshape(out.shape)).square().sum()).backward()
        adam.step()
    return {name: leaf.detach() for name, leaf in leaves.items()}


def test_kept_selections_equal_masks_in_torch(photograph):
    """Seven steps, of which the first three and the fifth select; tolerances as in `test_fit.py`.

    Selecting in every step ends elsewhere.
    """
    image = photograph[:24, :32].contiguous()
    options = FitOptions(
        reselect=4, growing_memory=False, respawn=0, settings=RenderSettings(top_k=8)
    )
    start = pipelines.initialize(image, 150, "gradient")
    start = dataclasses.replace(start, theta=torch.linspace(0, 3, 150))
    start.log_scale[:, 1] += 0.5
    expected = by_torch(image.double(), start, 7, options)
    fitted = taichi2dgs.fit(image, start, steps=7, options=options).gaussians
    for name in NAMES:
        moved = (getattr(fitted, name) - getattr(start, name)).abs().median()
        error = (getattr(fitted, name) - expected[name]).abs()
        assert float(error.median()) < 1e-4 * float(moved)
        assert float(error.quantile(0.95)) < 1e-2 * float(moved)


@pytest.mark.parametrize(("channels", "top_k"), [(3, 10), (1, 3), (5, 16)])
def test_what_does_not_move_is_selected_and_kept_alike(channels, top_k):
    """Bit for bit, ties included: every Gaussian is there twice."""
    g = scatter(150, (45, 53), channels=channels, log_scale=(0.0, 1.5))
    twice = Gaussians.from_packed(
        g.packed().repeat(2, 1), g.size, dataclasses.replace(g.settings, top_k=top_k)
    )
    image = torch.rand(*g.size, channels)
    ends = []
    for reselect in (1, 3):
        engine = engine_of(twice, image, reselect=reselect)
        for number in range(1, 4):
            engine.step(number, 0.0)
        assert engine.poll() and engine.done == 3
        ends.append((engine.psnrs()[0], torch.from_numpy(engine.exp_avg.to_numpy())))
    assert ends[0][0] == ends[1][0] and torch.equal(ends[0][1], ends[1][1])


@pytest.mark.parametrize("threads", [1, 3])
def test_kept_fits_repeat_bit_for_bit_whoever_works(threads, photograph, monkeypatch):
    start = pipelines.initialize(photograph, 900, "gradient")
    options = FitOptions(reselect=3)
    expected = taichi2dgs.fit(photograph, start, steps=14, options=options).gaussians
    monkeypatch.setattr(runtime, "threads", lambda: threads)
    again = taichi2dgs.fit(photograph, start, steps=14, options=options).gaussians
    assert torch.equal(again.packed(), expected.packed())


def test_lists_that_overflow_cost_a_kept_fit_no_step(photograph, monkeypatch):
    start = pipelines.initialize(photograph, 800, "gradient")
    start.log_scale.sub_(1.5)
    options = FitOptions(reselect=3)
    plain = taichi2dgs.fit(photograph, start, steps=12, options=options)
    reserved = []
    reserve = workspace.Workspace.reserve
    monkeypatch.setattr(workspace, "SPARE", 1.0)
    monkeypatch.setattr(
        workspace.Workspace, "reserve", lambda self, n: (reserved.append(n), reserve(self, n))
    )
    grown = taichi2dgs.fit(photograph, start, steps=12, options=options)
    assert len(reserved) > 3
    assert torch.equal(grown.gaussians.packed(), plain.gaussians.packed())


def test_steps_that_select(photograph, monkeypatch):
    """Steps 1, 4, 7, the step after a measurement or after more room was made, and fast ones."""
    engine = engine_of(pipelines.initialize(photograph, 300, "gradient"), photograph, reselect=3)
    launched, launch = [], engine._launch
    monkeypatch.setattr(
        engine, "_launch", lambda *args, **names: (launched.append(args), launch(*args, **names))
    )

    def selecting(*numbers: int, rate: float = 0.0) -> list[int]:
        launched.clear()
        for number in numbers:
            engine.step(number, rate)
        return [number for number, _, selects in launched if selects]

    assert selecting(*range(1, 9)) == [1, 4, 7]
    engine.poll()
    engine.score()
    assert selecting(9, 10, 11, 12, 13) == [9, 10, 13]
    engine.recover()
    assert selecting(14, 15) == [14]
    monkeypatch.setattr(engine.work, "make_room", lambda: False)
    engine.poll()
    assert selecting(17, 18) == [17]
    assert selecting(18, 19, 20, rate=0.81) == [18, 19, 20]
    assert selecting(21, 22, 23, rate=0.79) == [22]


def test_a_sum_has_nothing_to_keep(photograph):
    """It blends every Gaussian that covers a pixel, so that no fixed room is enough."""
    start = pipelines.initialize(photograph, 300, "gradient")
    ends = [
        taichi2dgs.fit(photograph, start, steps=7, options=FitOptions(
            reselect=reselect, settings=RenderSettings(blend="sum")
        )).gaussians.packed()
        for reselect in (1, 4)
    ]  # fmt: skip
    assert torch.equal(*ends)


def test_gaussians_that_run_from_what_they_were_chosen_for_stay_finite(photograph):
    """Squared distances grow far beyond what the exponential is made for."""
    start = pipelines.initialize(photograph, 500, "gradient")
    options = FitOptions(reselect=8, xy=40.0, log_scale=1.5)
    fitted = taichi2dgs.fit(photograph, start, steps=16, options=options).gaussians
    assert torch.isfinite(fitted.packed()).all()
    assert float((fitted.xy - start.xy).abs().max()) > 40
