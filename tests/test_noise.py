"""Fits that see parameters as if they were rounded: see fitting/noise.py."""

import math

import numpy as np
import pytest
import torch

import pipelines
from taichi2dgs import FitInterrupted, FitOptions, Gaussians, metrics
from taichi2dgs import fit as fit_function
from taichi2dgs.fitting import noise, refine
from taichi2dgs.fitting.engine import Engine
from taichi2dgs.fitting.picture import Picture
from taichi2dgs.storage import t2d
from taichi2dgs.storage.quantise import Precision, quantise

K = 300
STILL = dict.fromkeys(("xy", "log_scale", "theta", "color", "respawn"), 0.0)  # nothing moves
COARSE = Precision.of(20.0, K, (33, 41))


@pytest.fixture
def image(photograph):
    return photograph[:33, :41].contiguous()


@pytest.fixture
def start(image):
    return pipelines.initialize(image, K, "gradient")


def engine_of(image, start, frozen=None, **options):
    options = FitOptions(**{"settings": start.settings, "rounding": COARSE, **STILL, **options})
    return Engine([Picture(image, start.packed(), frozen)], options)


def held(engine):
    """What the parameters are at the moment, whatever noise they have."""
    return torch.from_numpy(engine.packed.to_numpy())


def test_steps_are_what_rounding_is_off_by(start):
    params = start.packed().numpy()
    params[:, 2:4] += np.random.default_rng(0).normal(0.0, 0.3, (K, 2)).astype(np.float32)
    cells = quantise(params, start.size, COARSE)
    off, steps = np.abs(cells.params() - params), cells.steps()
    place = [0, 1, 5, 6, 7]
    assert steps.shape == params.shape
    assert (off[:, place] <= 0.5 * steps[:, place] + 1e-5).all()
    assert off[:, place].mean() == pytest.approx(steps[:, place].mean() / 4, rel=0.1)
    scales = np.sort(cells.params()[:, 2:4]) - np.sort(params[:, 2:4])
    expected = steps[:, 2:4] / math.sqrt(12)  # the deviation of what is even
    assert np.sqrt((scales**2).mean()) == pytest.approx(expected.mean(), rel=0.15)


def noise_of(number):
    """The same numbers as the kernel's, with NumPy. [K, 8]"""

    def hashed(x):
        x = x ^ x >> np.uint32(16)
        x = x * np.uint32(0x7FEB352D)
        x = x ^ x >> np.uint32(15)
        x = x * np.uint32(0x846CA68B)
        return x ^ x >> np.uint32(16)

    if number == 0:
        return np.zeros((K, 8))
    step = np.array([number], np.uint32) * np.uint32(0x9E3779B9)
    parameter = np.arange(8 * K, dtype=np.uint32)
    return ((hashed(hashed(parameter) ^ step) >> np.uint32(8)) / 2.0**24 - 0.5).reshape(K, 8)


def test_noise_is_even_and_new_in_each_step():
    seen = {number: noise_of(number) for number in (1, 2, 3, 1_000, 100_000)}
    for one in seen.values():
        assert -0.5 <= one.min() < -0.49 and 0.49 < one.max() < 0.5
        assert abs(one.mean()) < 0.02 and abs(one.std() - 12**-0.5) < 0.01
        assert abs(np.corrcoef(one[1:].ravel(), one[:-1].ravel())[0, 1]) < 0.06
        assert np.abs(np.corrcoef(one.T) - np.eye(8)).max() < 0.25
    across = np.corrcoef([one.ravel() for one in seen.values()])
    assert np.abs(across - np.eye(len(seen))).max() < 0.06


def test_every_device_has_the_same_noise_and_takes_it_away(image, start):
    engine, own = engine_of(image, start), start.packed()
    amounts = noise.AMOUNT * quantise(own.numpy(), start.size, COARSE).steps()
    for number in (1, 2, 100_000, 0, 7, 1):
        engine.noise.change(engine.packed, number)
        assert np.abs((held(engine) - own).numpy() - amounts * noise_of(number)).max() < 2e-5
    assert torch.allclose(engine.params, own, atol=2e-5)  # asking for them takes it away


def test_a_step_sees_the_noise_and_moves_what_is_without(image, start):
    engine = engine_of(image, start)
    engine.step(1, 1.0)
    engine.poll()
    noisy = Gaussians.from_packed(held(engine), start.size, start.settings)
    expected = metrics.psnr(noisy.render(), image)
    assert engine.psnrs()[0] == pytest.approx(expected, abs=1e-3)
    assert abs(expected - metrics.psnr(start.render(), image)) > 0.01
    assert not engine.is_exact
    engine.score()
    assert engine.is_exact
    assert engine.psnrs()[0] == pytest.approx(metrics.psnr(start.render(), image), abs=1e-3)


def test_frozen_gaussians_have_no_noise_nor_have_fits_without_rounding(image, start):
    frozen = torch.arange(K) % 3 == 0
    engine = engine_of(image, start, frozen)
    engine.step(1, 1.0)
    moved = (held(engine) != start.packed()).any(1)
    assert torch.equal(moved, ~frozen)
    engine = engine_of(image, start, rounding=None)
    engine.step(1, 1.0)
    assert torch.equal(held(engine), start.packed())


def test_noise_goes_by_what_respawning_has_made_of_gaussians(image, start):
    engine = engine_of(image, start)
    engine.step(1, 1.0)
    assert engine.respawn([0.2]) > 10
    own = engine.params
    engine.noise.change(engine.packed, 2)
    amounts = noise.AMOUNT * quantise(own.numpy(), start.size, COARSE).steps()
    assert np.abs((held(engine) - own).numpy() - amounts * noise_of(2)).max() < 2e-5


def test_reports_are_of_the_gaussians_as_they_are(image, start):
    seen = []
    options = FitOptions(rounding=COARSE, report_every=7)
    result = fit_function(
        image, start, steps=40, options=options, on_report=lambda r: seen.append((r, r.gaussians))
    )
    assert [report.step for report, _ in seen][-1] == 40 and len(seen) > 5
    for report, gaussians in seen:
        assert report.psnr == pytest.approx(metrics.psnr(gaussians.render(), image), abs=1e-3)
    again = fit_function(image, start, steps=40, options=options)
    assert torch.equal(again.gaussians.packed(), result.gaussians.packed())
    plain = fit_function(image, start, steps=40, options=FitOptions(report_every=7))
    assert not torch.equal(plain.gaussians.packed(), result.gaussians.packed())


@pytest.mark.parametrize("after", [False, True], ids=["before the kernel", "after it"])
def test_ctrl_c_leaves_no_noise_behind(image, start, monkeypatch, after):
    calls = []
    change = noise.Noise.change

    def interrupted(self, packed, number):
        add_noise = self.work.add_noise

        def stopping(**arguments):
            if after:
                add_noise(**arguments)
            raise KeyboardInterrupt

        calls.append(number)
        if len(calls) == 6:
            monkeypatch.setattr(self.work, "add_noise", stopping)
        try:
            change(self, packed, number)
        finally:
            self.work.add_noise = add_noise

    monkeypatch.setattr(noise.Noise, "change", interrupted)
    options = FitOptions(rounding=COARSE, **STILL)
    with pytest.raises(FitInterrupted) as stop:
        fit_function(image, start, steps=50, options=options)
    fitted = stop.value.result.gaussians
    assert torch.allclose(fitted.packed(), start.packed(), atol=1e-5)


def test_refined_files_lose_less_for_it(photograph, monkeypatch):
    image = photograph
    g = fit_function(image, pipelines.initialize(image, 2_000, "gradient"), steps=400).gaussians
    saved = []
    for amount in (0.0, noise.AMOUNT):
        monkeypatch.setattr(noise, "AMOUNT", amount)
        data = refine.encode_refined(g, "small", image, 300)
        saved.append(metrics.psnr(t2d.decode(data).gaussians.render(), image))
    assert saved[1] > saved[0] + 0.15


def test_what_is_no_precision_is_refused():
    with pytest.raises(ValueError, match="rounding='medium'; expected a Precision, or None"):
        FitOptions(rounding="medium")  # type: ignore[arg-type]
