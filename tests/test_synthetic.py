"""Pictures drawn by script."""

import numpy as np
import pytest
import torch

from pipelines.training import synthetic


@pytest.mark.parametrize("side", [16, 33])
def test_a_picture_depends_on_its_generator_alone(side):
    first, again, other = (synthetic.picture(side, np.random.default_rng(s)) for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == (3, side, side) and first.dtype == torch.float32


@pytest.mark.parametrize("kind", synthetic.KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_fills_the_picture_in_more_than_one_way(kind):
    made = [kind(40, np.random.default_rng(seed)) for seed in range(8)]
    for image in made:
        assert image.shape == (3, 40, 40) and np.isfinite(image).all()
    assert np.std([image.mean() for image in made]) > 0.02
    assert max(image.std() for image in made) > 0.05  # none is a blank sheet every time


def test_pictures_are_of_all_kinds_and_within_range(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        synthetic,
        "KINDS",
        tuple(
            lambda side, rng, kind=kind: (drawn.append(kind), kind(side, rng))[1]
            for kind in synthetic.KINDS
        ),
    )
    images = torch.stack([synthetic.picture(16, np.random.default_rng(s)) for s in range(60)])
    assert images.min() >= 0 and images.max() <= 1
    assert len(set(drawn)) == 7 and len(drawn) > 75  # a second one over about half of them
