"""The examples in the docstrings of public names: each has one, and it is true."""

import doctest
import importlib
import inspect

import pytest

import pipelines
import taichi2dgs

NAMES = [("taichi2dgs", name) for name in taichi2dgs.__all__ if name not in ("draw", "reference")]
NAMES += [("taichi2dgs.draw", name) for name in ("ellipses", "centres", "heatmap")]
NAMES += [("taichi2dgs.torch", "GaussianFolder")]
NAMES += [("pipelines", name) for name in pipelines.__all__ if name != "STARTS"]


@pytest.mark.parametrize(("face", "name"), NAMES)
def test_a_public_name_has_an_example_that_is_true(face, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("skimage", reason="the sample picture needs scikit-image")
    thing = getattr(importlib.import_module(face), name)
    home = inspect.getmodule(thing)
    finder = doctest.DocTestFinder(recurse=False)
    (test,) = finder.find(thing, name, module=home, globs=dict(vars(home)))
    assert test.examples, f"{face}.{name} has no example"
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    assert not said, "".join(said)


# Modules whose inner functions have worked examples in numbers.
SHOWN = ("nets.unet", "pipelines.starts.sampling", "taichi2dgs.storage.streams")


@pytest.mark.parametrize("name", SHOWN)
def test_worked_examples_of_inner_functions_are_true(name):
    done = doctest.testmod(importlib.import_module(name))
    assert done.attempted and not done.failed
