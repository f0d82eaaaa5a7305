"""The names of the starts, and what each is made of. It imports nothing slow, for `--help`."""

from __future__ import annotations

from typing import NamedTuple


class Recipe(NamedTuple):
    """What a start is made of: the density of the centres, and who says what they look like."""

    density: str
    attributes: bool = False


STARTS = {
    "prior": Recipe("network", attributes=True),
    "prior-no-position": Recipe("uniform", attributes=True),
    "prior-no-attributes": Recipe("network"),
    "gradient": Recipe("gradient"),
    "random": Recipe("uniform"),
}
