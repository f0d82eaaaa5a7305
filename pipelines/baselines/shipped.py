"""The methods that come with the package, and those of files like theirs."""

from __future__ import annotations

from pipelines import configuration
from pipelines.baselines.method import Method

KIND = "baselines"  # the folder of these configurations


def names() -> list[str]:
    """Return the methods that come with the package."""
    return list(configuration.shipped(KIND))


def load(name: str) -> Method:
    """Return a method: the name of a shipped one, or the path of a YAML file.

    Raises:
        ValueError: there is none, or a value is wrong; the message names it.
    """
    return configuration.made(name, KIND, Method)
