"""YAML configurations."""

import dataclasses
import math
import typing

import pytest
import yaml

from pipelines import baselines, configuration
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
    names = {"adam", "position", "attributes", "finetune", "paper", "smoke"}
    assert names <= set(configuration.shipped())


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


def test_numbers_are_written_as_in_python(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("xy: 2e-3\ntheta: 1E2\ncolor: .5e0\nlog_scale: 1.0e0\nreport_every: 1e3\n")
    options = configuration.fit_options(str(path))
    assert options == FitOptions(xy=2e-3, theta=100, color=0.5, log_scale=1, report_every=1000)
    assert type(options.report_every) is int
    path.write_text("position: {learning_rate: 2e-3, k: [1e3, 20000], about: 2 e-3 of 1e}")
    config = configuration.stage(str(path), "position", PositionConfig)
    assert config == PositionConfig(learning_rate=2e-3, k=(1000, 20000), about="2 e-3 of 1e")


@pytest.mark.parametrize(
    ("text", "message"),
    [("xz: 1", "unknown: xz"), ("settings: {k: 1}", "unknown: k in settings"), ("xy: -1", "xy=-1"),
     ("xy: fast", "xy='fast'; expected a number"), ("- 1", "expected a mapping"),
     ("a: [", "not readable as YAML"), ("1: 2", "unknown: 1"),
     ("xy: .nan", "xy=nan; expected a number"), ("xy: true", "xy=True; expected a number"),
     ("xy:", "xy=None; expected a number"),
     ("report_every: 2.5", "report_every=2.5; expected a whole number"),
     ("settings: {top_k: ten}", "settings.top_k='ten'; expected a whole number"),
     ("settings: 3", "settings=3; expected a mapping of names to values")],
)  # fmt: skip
def test_bad_files_are_named(tmp_path, text, message):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        configuration.fit_options(str(path))
    assert str(path) in str(caught.value)


ONE, SOME, NONE = "a whole number of 1 or more", "a number", "a whole number of 0 or more"


@pytest.mark.parametrize(
    ("name", "wrong", "expected"),
    [("width", ("sixteen", 0, 2000, 1.5, [8], None, True), "a whole number in 1..512"),
     ("patch", (0, "2"), "a whole number in 1..16"),
     ("crop", (8, -1, 10**9), "a whole number in 16..8192"),
     ("crop", (32,), "more than 16 x patch = 32, so that"),
     ("k", (5, [5], [1, 2, 3], [0, 5], ["a", 5], {}), "2 numbers, each in 1..10000000"),
     ("k", ([9, 5],), "the lower number first"), ("crops", (0, "many"), ONE), ("batch", (0,), ONE),
     ("learning_rate", (0, -1e-3, "fast", [1], math.inf, math.nan), "a number above 0"),
     ("workers", (-1, 1.5), "a whole number in 0..1024"), ("about", (3, ["a"]), "text"),
     ("seed", (-1, None, 10**400), "a whole number in 0.."), ("epochs", (0, None), ONE),
     ("sampler", ("best", 3, None), "one of multinomial, distinct, top-k, "),
     ("valid_crops", (0,), ONE), ("rounds", (0, "two"), ONE), ("steps", (-1,), NONE),
     ("threshold", (-0.1, 1.5, "none"), "a number in 0..1"), ("sigma", (-1, 100), "a number in 0"),
     ("loss", ("l1", ["l2"]), "one of "), ("valid_images", (0,), ONE),
     ("coarse", (0, 17), "a whole number in 1..16"), ("average", (1, -0.1), "a number in 0..0.99"),
     ("decay", (0, 2, None), "a number in 0.01..1"), ("solved", (-1, 0.5), "a whole number in 0.."),
     ("powers", (1, [1], [0, 5]), "2 numbers, each in 0..4"),
     ("untuned", (-0.1, 2, "half"), "a number in 0..1"),
     ("respawn", (-0.1, 2, "some"), "a number in 0..1"),
     ("variety", (3, "much", None), "a mapping of names to values"),
     ("warm_up", (-1, "long"), NONE)],
)  # fmt: skip
def test_fields_of_training_that_are_wrong_are_named(tmp_path, name, wrong, expected):
    path = tmp_path / "a.yaml"
    for section, kind in STAGES.items():
        if name not in {field.name for field in dataclasses.fields(kind)}:
            continue
        for value in wrong:
            path.write_text(yaml.safe_dump({section: {name: value}}))
            with pytest.raises(ValueError) as caught:
                configuration.stage(str(path), section, kind)
            message = str(caught.value)
            assert message.startswith(f"{path}: ") and f"{name}={value!r}; expected" in message
            assert expected in message and "\n" not in message


@pytest.mark.parametrize("kind", STAGES.values())
def test_every_field_of_training_says_what_it_may_be(kind):
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        parts = (
            typing.get_type_hints(hint, include_extras=True) if name == "variety" else {"": hint}
        )
        for part in parts.values():
            assert typing.get_origin(part) is typing.Annotated or name == "about", name


@pytest.mark.parametrize(
    ("variety", "message"),
    [("{synthetic: 2}", r"variety.synthetic=2; expected a number in 0..1"),
     ("{scale: [2, 1]}", r"scale=\[2, 1\]; expected the lower number first"),
     ("{color: many}", "variety.color='many'; expected a number in 0..1"),
     ("{hue: 1}", "unknown: hue in attributes.variety")],
)  # fmt: skip
def test_varieties_that_are_wrong_are_named(tmp_path, variety, message):
    path = tmp_path / "a.yaml"
    path.write_text(f"attributes: {{variety: {variety}}}")
    with pytest.raises(ValueError, match=message):
        configuration.stage(str(path), "attributes", AttributesConfig)


@pytest.mark.parametrize(
    ("text", "message"),
    [("rates: {xy: fast}", "rates.xy='fast'; expected a number"),
     ("rates: 3", "rates=3; expected a mapping"), ("fused: 'yes'", "expected true or false"),
     ("sampler: 3", "sampler=3; expected text"), ("scale: large", "scale='large'; expected a num"),
     ("plateau: {every: often}", "plateau.every='often'; expected a whole number"),
     ("growth: {firsts: 1}", "unknown: firsts in growth"), ("fit: {xy: x}", "fit.xy='x'; expected"),
     ("settings: {top_k: x}", "settings.top_k='x'; expected a whole number")],
)  # fmt: skip
def test_fields_of_methods_that_are_wrong_are_named(tmp_path, text, message):
    path = tmp_path / "a.yaml"
    rates = "" if text.startswith("rates") else "rates: {xy: 1, shape: 1, theta: 1, color: 1}\n"
    path.write_text(rates + text)
    with pytest.raises(ValueError, match=message) as caught:
        baselines.load(str(path))
    assert str(caught.value).startswith(f"{path}: ")


def test_unknown_names_list_what_is_there():
    with pytest.raises(ValueError, match="absent: no such file or configuration; shipped: adam"):
        configuration.load("absent")
