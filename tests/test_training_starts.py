"""What trainings learn from: starts and fits as their configuration asks for them."""

import numpy as np
import pytest
import torch

from pipelines.starts import prior
from pipelines.training import position
from pipelines.training.attributes import STEPS, AttributesConfig, AttributesStage
from pipelines.training.loop import Processes
from pipelines.training.position import PositionConfig, PositionStage
from taichi2dgs.fitting.options import FitOptions
from taichi2dgs.storage import files

SMALL = {"width": 8, "crop": 64, "crops": 24, "batch": 4}


@pytest.fixture
def data(tmp_path):
    """A folder of three small pictures of noise, one of which validates."""
    (tmp_path / "data").mkdir()
    for index in range(3):
        noise = np.random.default_rng(index).random((80, 80, 3))
        files.write_image(tmp_path / "data" / f"{index}.png", torch.from_numpy(noise).float())
    return str(tmp_path / "data")


@pytest.fixture
def drawn(monkeypatch):
    """The steps of the fits for which starts are drawn, batch by batch."""
    drawn, densities = [], prior.densities
    monkeypatch.setattr(
        prior, "densities", lambda *args: drawn.append(args[-1]) or densities(*args)
    )
    return drawn


def stage(kind, data, config):
    return kind(data, None, f"{data}/../{kind.name}", config, Processes(), quiet=True)


@pytest.mark.parametrize(("share", "steps"), [(0, {STEPS}), (1, {0}), (0.5, {0, STEPS})])
def test_starts_are_drawn_for_fits_or_for_none(data, drawn, share, steps):
    config = AttributesConfig(**SMALL, powers=(0.5, 1.1), untuned=share)
    run = stage(AttributesStage, data, config)
    run.wrapped = run.net
    run._learn()
    assert len(drawn) == 6 and set(drawn) == steps


@pytest.mark.parametrize("untuned", [0, 1])
def test_only_starts_of_fits_are_drawn_by_other_powers(data, monkeypatch, untuned):
    seen, place = {}, prior.place
    monkeypatch.setattr(
        prior,
        "place",
        lambda image, heat, *rest: seen.update(heat=heat) or place(image, heat, *rest),
    )
    config = AttributesConfig(**SMALL, powers=(0.5, 0.5), untuned=untuned)
    run = stage(AttributesStage, data, config)
    image, k = torch.rand(2, 3, 64, 64), [100, 1000]
    run._varied(image, k, seed=0)
    density = prior.densities(run.position, image, k, 0 if untuned else STEPS)
    torch.testing.assert_close(seen["heat"], density if untuned else density**0.5)


def test_validation_has_starts_without_a_fit(data, drawn):
    """At the power for them, three starts of a picture's six are those of no fit."""
    run = stage(AttributesStage, data, AttributesConfig(**SMALL))
    run._validate(1.0)
    assert drawn.count(0) == drawn.count(STEPS) == 3
    (row,) = run.rows
    assert row["untuned_psnr"] != row["valid_psnr"] and row["untuned_psnr"] > 0


@pytest.mark.parametrize("respawn", [0.0, 0.3])
def test_positions_are_learnt_from_fits_that_respawn_as_asked(data, monkeypatch, respawn):
    asked, fit = [], position.fit_batch
    monkeypatch.setattr(
        position,
        "fit_batch",
        lambda *args, options, **rest: asked.append(options) or fit(*args, options=options, **rest),
    )
    config = PositionConfig(**SMALL, valid_crops=1, steps=2, respawn=respawn)
    stage(PositionStage, data, config)._validate(1.0)
    assert asked == [FitOptions(respawn=respawn)]
