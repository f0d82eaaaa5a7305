"""YAML configurations: files of the user, or those that travel with the package."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml

from pipelines import fields
from taichi2dgs.checks import shown
from taichi2dgs.fitting.options import FitOptions

Config = TypeVar("Config")

# Beside this file when installed, else, in a checkout, beside this package.
PLACES = (Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs")


class _Loader(yaml.SafeLoader):
    """Reads 2e-3 as a number, as Python and YAML 1.2 do, where YAML 1.1 wants 2.0e-3."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def shipped(kind: str = "") -> dict[str, Path]:
    """Return the configurations that come with the package, or one kind of them, by name."""
    folder = next((place for place in PLACES if place.is_dir()), PLACES[0])
    return {path.stem: path for path in sorted((folder / kind).glob("*.yaml"))}


def load(name: str, kind: str = "") -> dict[str, Any]:
    """Read a configuration: the path of a YAML file, or the name of a shipped one of a kind.

    Raises:
        ValueError: there is no such file, or it is not a YAML mapping; the message names it.
    """
    if not isinstance(name, str | os.PathLike):
        raise ValueError(f"name={shown(name)}; expected a path or the name of a configuration")
    path = Path(name) if os.path.isfile(name) else shipped(kind).get(str(name))
    if path is None:
        raise ValueError(
            f"{name}: no such file or configuration; shipped: {', '.join(shipped(kind))}"
        )
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(
            f"{path}: not readable as YAML ({' '.join(str(error).split())})"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a mapping of names to values")
    return content


def fit_options(name: str | None, **overrides: Any) -> FitOptions:
    """Return the options of a fit that a configuration describes; the defaults for None.

    A configuration holds fields of `FitOptions`; under `settings`, fields of `RenderSettings`.

    Raises:
        ValueError: a name or a value is wrong; the message names the configuration and it.
    """
    content = (load(name) if name else {}) | overrides
    with _named(name or "fit options"):
        return fields.made(FitOptions, content)


def stage(name: str, section: str, kind: type[Config]) -> Config:
    """Return the settings of one stage of training that a configuration describes.

    Args:
        name: of the configuration.
        section: of it, that holds fields of `kind`.
        kind: the dataclass of the settings.

    Raises:
        ValueError: the section is missing, or a name or value is wrong; the message names both.
    """
    content = load(name)
    with _named(name):
        if not isinstance(content.get(section), dict):
            raise ValueError(f"no section {section!r} with settings")
        return fields.made(kind, content[section], section)


def made(name: str, kind: str, config: type[Config]) -> Config:
    """Return the settings that a whole configuration of a kind describes.

    Raises:
        ValueError: a name or a value is wrong; the message names the configuration and it.
    """
    content = load(name, kind)
    with _named(name):
        return fields.made(config, content)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error
