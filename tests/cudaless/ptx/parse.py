"""The parts of a PTX module: functions, variables, and the statements of a body."""

import re
from dataclasses import dataclass, field

from ptx.values import TranslationError

HEADER = re.compile(
    r"(?:\.(?:extern|visible|weak)\s+)?\.(?P<what>entry|func)\s+"
    r"(?:\(\s*(?P<result>[^)]*)\)\s*)?(?P<name>[\w$]+)\s*(?:\((?P<params>[^)]*)\))?"
    r"[^;{]*(?P<end>[;{])"
)
VARIABLE = re.compile(
    r"(?P<extern>\.extern\s+)?\.(?:global|const)\s+(?:\.align\s+(?P<align>\d+)\s+)?\.(?P<kind>\w+)\s+(?P<name>[\w$]+)"
    r"(?:\[(?P<count>\d*)\])?\s*(?:=\s*(?P<value>[^;]*))?;"
)
# A label, an opening or closing brace, or a statement, whose operands may have braces of their own.
PIECE = re.compile(r"\s*(?:(?P<label>[$\w]+)\s*:(?!:)|(?:[^;{}]*\{[^;{}]*\})*[^;{}]*;|[{}])")


@dataclass
class Function:
    """A kernel ("entry") or a function ("func"); `body` is None where only declared."""

    what: str
    name: str
    params: list[str]
    result: str | None
    body: str | None


@dataclass
class Variable:
    """A variable of the module, with its initialiser as it stands."""

    name: str
    kind: str
    count: int
    align: int
    value: str


@dataclass
class Module:
    functions: list[Function] = field(default_factory=list)
    variables: list[Variable] = field(default_factory=list)


def module(text: str) -> Module:
    """Find functions and variables in the text of a module."""
    text = re.sub(r"//[^\n]*", "", text)
    found, outside, at = Module(), [], 0
    for match in HEADER.finditer(text):
        end = closing(text, match.end()) if match["end"] == "{" else None
        result = names_of(match["result"])
        found.functions.append(
            Function(
                match["what"],
                match["name"],
                names_of(match["params"]),
                result[0] if result else None,
                None if end is None else text[match.end() : end],
            )
        )
        outside.append(text[at : match.start()])
        at = match.end() if end is None else end + 1
    for match in VARIABLE.finditer("".join([*outside, text[at:]])):
        if match["extern"]:
            raise TranslationError(f"variable {match['name']} is of another module")
        found.variables.append(
            Variable(
                match["name"],
                match["kind"],
                int(match["count"] or 1),
                int(match["align"] or 1),
                (match["value"] or "").strip(),
            )
        )
    return found


def closing(text: str, at: int) -> int:
    """Where the brace closes that was opened just before `at`."""
    depth = 1
    for match in re.compile(r"[{}]").finditer(text, at):
        depth += 1 if match[0] == "{" else -1
        if not depth:
            return match.start()
    raise TranslationError("a brace is never closed")


def names_of(params: str | None) -> list[str]:
    """Names of declared parameters, without their types and extents."""
    return [re.search(r"([\w$]+)(?:\[\d*\])?\s*$", item)[1] for item in split(params or "")]


def split(text: str) -> list[str]:
    """Cut at commas outside brackets."""
    out, depth, held = [], 0, ""
    for letter in text:
        depth += (letter in "{[(") - (letter in "}])")
        if letter == "," and not depth:
            out.append(held.strip())
            held = ""
        else:
            held += letter
    return [*out, held.strip()] if held.strip() else out


def statements(body: str) -> tuple[list[str], dict[str, list[str]]]:
    """Cut a body into statements.

    Returns:
        The statements without semicolons ("{", "}" and "label:" stand alone), and the branch
        tables by name. Prototypes of calls are left out, since a call says all that is needed.
    """
    found, tables, at = [], {}, 0
    while at < len(body.rstrip()):
        match = PIECE.match(body, at)
        if not match:
            raise TranslationError(f"unknown text {' '.join(body[at : at + 60].split())!r}")
        at, text = match.end(), " ".join(match[0].split())
        if text.startswith(".branchtargets"):
            tables[found.pop().rstrip(":")] = split(text[len(".branchtargets") : -1])
        elif text.startswith(".callprototype"):
            found.pop()
        else:
            found.append(f"{match['label']}:" if match["label"] else text.rstrip(";").strip())
    return found, tables
