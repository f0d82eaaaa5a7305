"""What a PTX instruction is, and which opcodes there are.

Each opcode names the modifiers whose meaning it keeps. Any other is an error, so that, say, a
rounding mode is never passed over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ptx.values import TranslationError, is_real

if TYPE_CHECKING:
    from ptx.body import Body

ALONE = ("bar", "barrier", "shfl", "vote", "match", "activemask", "redux", "elect")


@dataclass
class Instruction:
    """One instruction: its modifiers with the opcode first, its type, and where it stands."""

    body: Body
    parts: list[str]
    words: list[str]

    @property
    def kind(self) -> str:
        return self.parts[-1]

    def has(self, *modifiers: str) -> bool:
        return any(modifier in self.parts for modifier in modifiers)

    def operand(self, index: int, kind: str | None = None) -> str:
        if index >= len(self.words):
            raise TranslationError(f"operand {index} is missing")
        return self.body.read(self.words[index], kind or self.kind)

    def result(self, value: str, kind: str | None = None) -> str:
        return self.body.write(self.words[0], kind or self.kind, value)

    def computed(self, formula: str | Callable[..., str]) -> str:
        """One result from operands of one type, flushed and saturated as the modifiers say."""
        flush = self.has("ftz") and self.kind == "f32"
        values = [self.operand(i) for i in range(1, len(self.words))]
        values = [f"ftz({value})" for value in values] if flush else values
        value = formula.format(*values) if isinstance(formula, str) else formula(*values)
        if self.has("sat"):
            if not is_real(self.kind):
                raise TranslationError("unknown modifier .sat of integers")
            value = f"min_{self.kind}(1, max_{self.kind}(0, {value}))"
        return self.result(f"ftz({value})" if flush else value)


@dataclass
class Opcode:
    """How an opcode is translated, the modifiers it may have, and how many types end it."""

    handler: Callable[[Instruction], str]
    modifiers: frozenset[str]
    types: int


OPCODES: dict[str, Opcode] = {}


def opcode(name: str, modifiers: str = "", types: int = 1):
    """Register the translation of an opcode, which has so many types at its end."""

    def register(handler):
        OPCODES[name] = Opcode(handler, frozenset(modifiers.split()), types)
        return handler

    return register


def translate(body: Body, code: str, words: list[str]) -> str:
    """Return the C of one instruction.

    Raises:
        TranslationError: the instruction, a modifier or a type is unknown; the message names it.
    """
    parts = code.split(".")
    if parts[0] in ALONE:
        return f'stop(NOT_SUPPORTED, "{code} needs more than one thread");'
    try:
        if parts[0] not in OPCODES:
            raise TranslationError("no such opcode")
        known = OPCODES[parts[0]]
        for modifier in parts[1 : len(parts) - known.types]:
            if modifier not in known.modifiers:
                raise TranslationError(f"unknown modifier .{modifier}")
        return known.handler(Instruction(body, parts, words))
    except TranslationError as error:
        raise TranslationError(f"unknown instruction {code!r}: {error}") from None
