"""Refining rounds part after part, and fits what is not yet rounded."""

import pytest
import torch

import pipelines
from taichi2dgs import FitInterrupted, Gaussians, fit
from taichi2dgs.fitting import refine
from taichi2dgs.storage.quantise import Precision

K = 400


@pytest.fixture
def fitted(photograph):
    image = photograph[:48, :60]
    return fit(image, pipelines.initialize(image, K, "gradient"), steps=20).gaussians, image


def test_what_is_rounded_stays_while_the_rest_moves(fitted, monkeypatch):
    """Centres are rounded first, then all but colour in groups of Gaussians, then their colours."""
    (g, image), rounded = fitted, refine.rounded
    stages = []

    def noted(gaussians, precision, rows, columns):
        result = rounded(gaussians, precision, rows, columns)
        stages.append((rows, columns, result.packed()))
        return result

    monkeypatch.setattr(refine, "rounded", noted)
    ends = []
    fit_on = refine.fit

    def fit_noted(*arguments, **more):
        result = fit_on(*arguments, **more)
        ends.append(result.gaussians.packed())
        return result

    monkeypatch.setattr(refine, "fit", fit_noted)
    refine.refined(g, image, Precision.of(1.0, K, g.size), refine.FEW)
    assert len(stages) + 1 == len(ends) == refine.STAGES  # nothing is rounded before the first
    for (rows, columns, before), after in zip(stages, ends[1:], strict=True):
        assert torch.equal(after[rows, :columns], before[rows, :columns])
        free = ~rows if columns is None else torch.ones_like(rows)
        assert bool((after[free, 5:] != before[free, 5:]).any())
    end = Gaussians.from_packed(ends[-1], g.size, g.settings)
    again = rounded(end, Precision.of(1.0, K, g.size), torch.ones(K, dtype=torch.bool), None)
    assert torch.equal(again.packed()[:, :5], ends[-1][:, :5])  # rounded values stay as they are


def test_ctrl_c_while_refining_is_no_half_rounded_result(fitted, monkeypatch):
    g, image = fitted
    calls = []

    def stopped(*arguments, **more):
        calls.append(fit(*arguments, **more))
        if len(calls) == 2:
            raise FitInterrupted(calls[-1])
        return calls[-1]

    monkeypatch.setattr(refine, "fit", stopped)
    with pytest.raises(KeyboardInterrupt) as raised:
        refine.refined(g, image, Precision.of(1.0, K, g.size), 16)
    assert raised.type is KeyboardInterrupt and len(calls) == 2
