"""YAML configurations."""

import pytest

from pipelines import configuration
from pipelines.training.attributes import AttributesConfig
from pipelines.training.position import PositionConfig
from taichi2dgs import FitOptions

STAGES = {"position": PositionConfig, "attributes": AttributesConfig}


@pytest.mark.parametrize("name", sorted(configuration.shipped()))
def test_shipped_configurations_load(name):
    sections = set(configuration.load(name)) & set(STAGES)
    for section in sections:
        kind = STAGES[section]
        assert isinstance(configuration.stage(name, section, kind), kind)
    if not sections:
        assert isinstance(configuration.fit_options(name), FitOptions)


def test_there_are_shipped_configurations():
    assert {"adam", "position", "attributes", "paper", "smoke"} <= set(configuration.shipped())


def test_the_papers_settings_are_those_of_its_section_4_1():
    position, attributes = (configuration.stage("paper", n, kind) for n, kind in STAGES.items())
    assert position.rounds * position.epochs == 200 and position.learning_rate == 5e-4
    assert position.loss == "l2" and position.sampler == "multinomial"
    assert attributes.epochs == 500 and attributes.learning_rate == 1e-4


def test_files_and_nested_settings(tmp_path):
    (tmp_path / "a.yaml").write_text("xy: 0.2\nsettings: {top_k: 4, blend: sum}\n")
    options = configuration.fit_options(str(tmp_path / "a.yaml"), report_every=3)
    assert options.xy == 0.2 and options.report_every == 3
    assert options.settings.top_k == 4 and options.settings.blend == "sum"
    assert configuration.fit_options(None) == FitOptions()


@pytest.mark.parametrize(
    ("text", "message"),
    [("xz: 1", "unknown: xz"), ("settings: {k: 1}", "unknown: k"), ("xy: -1", "xy=-1"),
     ("xy: fast", "a.yaml"), ("- 1", "expected a mapping"), ("a: [", "not readable as YAML"),
     ("settings: 3", "a.yaml")],
)  # fmt: skip
def test_bad_files_are_named(tmp_path, text, message):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        configuration.fit_options(str(path))
    assert str(path) in str(caught.value)


def test_unknown_names_list_what_is_there():
    with pytest.raises(ValueError, match="absent: no such file or configuration; shipped: adam"):
        configuration.load("absent")
