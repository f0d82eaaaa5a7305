"""What the fields of a configuration may hold: annotations say it, and one place checks it."""

from __future__ import annotations

import math
import numbers
import sys
from dataclasses import dataclass, fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

Kind = TypeVar("Kind")
LARGEST = sys.float_info.max
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


@dataclass(frozen=True)
class Range:
    """Annotates a number, or each of several: `Annotated[float, Range(0, 1)]`.

    Args:
        low, high: the ends of the range, which belong to it.
        above: whether the low end does not belong to it, where there is no high one.
    """

    low: float
    high: float = math.inf
    above: bool = False

    def __contains__(self, value: Any) -> bool:
        return self.low <= value <= self.high and not (self.above and value == self.low)

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f" above {self.low}" if self.above else f" of {self.low} or more"
        return f" in {self.low}..{self.high}"


class OneOf(tuple[str, ...]):
    """Annotates a text by the names that it can be: `Annotated[str, OneOf(("a", "b"))]`."""


def made(kind: type[Kind], content: Any, within: str = "") -> Kind:
    """Return settings, made of names and values as they come out of a file.

    A value must be what the annotation of its field says: the type, and the `Range` or the `OneOf`
    of an `Annotated` one. A field that is a dataclass itself takes a mapping.

    Args:
        kind: the dataclass of the settings.
        content: names and values.
        within: the field that holds them, for messages.

    Raises:
        ValueError: a name is unknown, or a value is wrong; the message names it.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{within}={content!r}; expected a mapping of names to values")
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    unknown = [str(name) for name in content if name not in known]
    if unknown:
        place = f" in {within}" if within else ""
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}{place}")
    hints = get_type_hints(kind, include_extras=True)
    prefix = f"{within}." if within else ""
    return kind(
        **{name: _value(prefix + name, value, hints[name]) for name, value in content.items()}
    )


def _value(name: str, value: Any, hint: Any) -> Any:
    """Return a value as the type that its annotation names, or raise ValueError."""
    note: Any = ""
    if get_origin(hint) is Annotated:
        hint, note = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        if value is None:
            return None
        (hint,) = (kind for kind in get_args(hint) if kind is not type(None))
    if is_dataclass(hint):  # one of `FitOptions` that is not given is None
        is_ready = value is None or isinstance(value, hint)  # type: ignore[arg-type]
        return value if is_ready else made(hint, value, name)  # type: ignore[arg-type]
    if get_origin(hint) is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{name}={value!r}; expected a mapping of names to values")
        return {key: _value(f"{name}.{key}", one, get_args(hint)[1]) for key, one in value.items()}
    if get_origin(hint) is tuple:
        kinds = get_args(hint)
        fits = isinstance(value, list | tuple) and len(value) == len(kinds)
        if not fits or not all(_fits(*pair, note) for pair in zip(value, kinds, strict=True)):
            raise ValueError(f"{name}={value!r}; expected {len(kinds)} numbers, each{note}")
        return tuple(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        value = int(value)  # 1e3
    if hint in WORDS and not _fits(value, hint, note):
        expected = f"one of {', '.join(note)}" if hint is str and note else WORDS[hint] + str(note)
        raise ValueError(f"{name}={value!r}; expected {expected}")
    return value


def _fits(value: Any, kind: type, note: Any) -> bool:
    """Whether a value is of a type, finite, and in its range or among its choices."""
    if kind in (int, float):
        wanted = numbers.Integral if kind is int else numbers.Real
        if isinstance(value, bool) or not isinstance(value, wanted):
            return False
        if not -LARGEST <= value <= LARGEST:  # type: ignore[operator]
            return False
    elif not isinstance(value, kind):
        return False
    return not note or value in note
