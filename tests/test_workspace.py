"""Workspaces that renders keep for the next render, and how they are given back."""

import pytest
import torch
from conftest import scatter

import taichi2dgs
from taichi2dgs.kernels import cores
from taichi2dgs.kernels.variant import Variant
from taichi2dgs.rendering import passes
from taichi2dgs.rendering.workspace import Workspace


@pytest.fixture
def made(monkeypatch):
    """A list that all workspaces made in a test are added to; none is kept at its start."""
    result, init = [], Workspace.__init__
    monkeypatch.setattr(
        Workspace, "__init__", lambda self, *rest: (result.append(self), init(self, *rest))[1]
    )
    taichi2dgs.free()
    return result


def test_renders_in_a_loop_share_a_workspace(made):
    pictures = [scatter(90, (33, 40), seed=seed).render() for seed in (0, 1, 0)]
    assert len(made) == 1
    assert torch.equal(pictures[0], pictures[2]) and not torch.equal(*pictures[:2])


def test_a_render_in_between_leaves_a_loop_of_gradients_its_workspace(made):
    for seed in range(3):
        leaf = scatter(90, (33, 40), seed=seed)
        leaf.color.requires_grad_()
        leaf.render().sum().backward()
        with torch.no_grad():
            leaf.render(size=(50, 60))
    assert len(made) == 2


def test_free_gives_back_what_is_kept(made):
    scatter(90, (33, 40)).render()
    taichi2dgs.free()
    assert not passes._idle
    scatter(90, (33, 40)).render()
    assert len(made) == 2


def test_large_workspaces_are_kept_for_gradients_only(made, monkeypatch):
    monkeypatch.setattr(passes, "IDLE_BYTES", 1000)
    leaf = scatter(90, (33, 40))
    leaf.render()
    assert not passes._idle
    leaf.color.requires_grad_()
    leaf.render().sum().backward()
    assert list(passes._idle) == [True] and made[-1].bytes() > 1000


def test_equal_variants_share_their_kernels():
    one, same, other = (cores.make(Variant(3, k, "normalized")) for k in (5, 5, 6))
    assert one is same and one is not other
