"""One PTX function in C: registers, operands, declarations and calls."""

import re

from ptx import instruction, parse
from ptx.values import TranslationError, bits_of, c_type, is_real

SPECIAL = {
    "%tid.x": "thread->tid",
    "%ntid.x": "thread->ntid",
    "%ctaid.x": "thread->ctaid",
    "%nctaid.x": "thread->nctaid",
    "%laneid": "(thread->tid & 31)",
}
ONE = re.compile(r"%n(tid|ctaid)\.[yz]$")  # grids and blocks have one dimension
ZERO = re.compile(r"%(tid|ctaid)\.[yz]$")
CALL = re.compile(
    r"(?:\(\s*(?P<result>\w+)\s*\)\s*,\s*)?(?P<target>%?[\w$]+)\s*"
    r"(?:,\s*\((?P<given>[^)]*)\))?(?:\s*,\s*\w+)?"
)
DECLARATION = re.compile(
    r"\.(?:local|param)\s+(?:\.align\s+(?P<align>\d+)\s+)?\.(?P<kind>\w+)\s+(?P<name>[\w$]+)"
    r"(?:\[(?P<count>\d+)\])?"
)


def pointer(name: str) -> str:
    """The address of a C array, as PTX holds addresses."""
    return f"(uint64_t)(uintptr_t){name}"


def register(word: str) -> str:
    """The C name of a register: inline assembly has r1 beside LLVM's %r1."""
    return f"v_{word[1:]}" if word.startswith("%") else f"w_{word}"


class Body:
    """One function being translated.

    Args:
        function: what was parsed.
        known: C names of all functions and variables of the module.
    """

    def __init__(self, function: parse.Function, known: dict[str, str]) -> None:
        self.function, self.known = function, known
        self.symbols = {name: pointer(f"p{i}") for i, name in enumerate(function.params)}
        if function.result:
            self.symbols[function.result] = pointer("result")
        self.kinds: dict[str, str] = {}  # of registers
        self.lines: list[str] = []
        self.head: list[str] = []  # declarations: C has no jump over one that initialises
        self.depth = 0
        self.tables: dict[str, list[str]] = {}

    def translate(self) -> str:
        """Return the C between the braces of the function."""
        found, self.tables = parse.statements(self.function.body or "")
        for statement in found:
            if statement in ("{", "}"):
                self.depth += 1 if statement == "{" else -1
                self.lines.append(statement)
            elif statement.endswith(":"):
                self.lines.append(f"{statement};")
            elif statement.startswith("."):
                self.declare(statement)
            else:
                self.instruction(statement)
        return "\n".join(["unsigned carry = 0;", *self.head, *self.lines])

    def instruction(self, text: str) -> None:
        """Append one instruction, under its guard."""
        guard = ""
        match = re.match(r"@(!?)(%\w+) (.*)", text)
        if match:
            guard, text = f"if ({match[1]}{register(match[2])}) ", match[3]
        opcode, _, rest = text.partition(" ")
        if opcode.split(".")[0] == "call":
            code = self.call(rest)
        else:
            code = instruction.translate(self, opcode, parse.split(rest))
        self.lines.append(f"{guard}{{ {code} }}" if guard else code)

    def read(self, word: str, kind: str) -> str:
        """The value of an operand, as a C expression of a PTX type."""
        word, target = word.strip(), c_type(kind)
        if kind == "pred" and word.startswith("!"):
            return f"(!{self.read(word[1:], kind)})"
        if word in SPECIAL:
            return f"(({target})({SPECIAL[word]}))"
        if ONE.match(word) or ZERO.match(word):
            return f"(({target}){int(bool(ONE.match(word)))})"
        if match := re.match(r"0([fd])([0-9A-Fa-f]+)$", word):
            held = "f32" if match[1] == "f" else "f64"
            if is_real(kind) and kind != held:
                raise TranslationError(f"{word} is .{held} and read as .{kind}")
            value = f"0x{match[2]}ull"
            return f"as_{held}({value})" if kind == held else f"(({target}){value})"
        if re.match(r"-?\d", word):
            return word if kind == "pred" else f"(({target}){word.rstrip('U')}ll)"
        if word in self.kinds:
            return self.held(word, kind)
        return f"(({target}){self.symbol(word)})"

    def held(self, word: str, kind: str) -> str:
        """The content of a register as another type: bits are kept, integers are cut."""
        of, name = self.kinds[word], register(word)
        if is_real(of) and not is_real(kind):
            return f"(({c_type(kind)})of_{of}({name}))"
        if is_real(kind) and not is_real(of):
            return f"as_{kind}({name})"
        if is_real(kind) and of != kind:
            raise TranslationError(f"register {word} is .{of} and read as .{kind}")
        return name if of == kind else f"(({c_type(kind)}){name})"

    def write(self, word: str, kind: str, value: str) -> str:
        """The statement that puts a C expression of a PTX type into a register."""
        word = word.strip()
        if word == "_":
            return f"(void)({value});"
        if word not in self.kinds:
            raise TranslationError(f"unknown register {word!r}")
        of, name = self.kinds[word], register(word)
        if is_real(of) and not is_real(kind):
            return f"{name} = as_{of}({value});"
        if is_real(kind) and not is_real(of):
            return f"{name} = of_{kind}({value});"
        if of != kind and (is_real(of) or "pred" in (of, kind)):
            raise TranslationError(f"register {word} is .{of} and written as .{kind}")
        return f"{name} = {value};" if of == kind else f"{name} = ({c_type(of)})({value});"

    def symbol(self, word: str) -> str:
        """The address of what a name stands for."""
        if word in self.symbols:
            return self.symbols[word]
        if word in self.known:
            return pointer(f"&{self.known[word]}")
        raise TranslationError(f"unknown operand {word!r}")

    def address(self, word: str) -> str:
        """The address that an operand in brackets means."""
        match = re.fullmatch(r"\[\s*(%?[\w$.]+?)(?:\s*\+\s*(-?\w+))?\s*\]", word.strip())
        if not match:
            raise TranslationError(f"unknown address {word!r}")
        base = self.read(match[1], "u64")
        return f"({base} + {match[2]}ll)" if match[2] else base

    def call(self, rest: str) -> str:
        """A call by name or by address: results and arguments are passed by address."""
        match = CALL.fullmatch(rest.strip())
        if not match:
            raise TranslationError(f"unknown call {rest!r}")
        arguments, target = parse.split(match["given"] or ""), match["target"]
        given = ", ".join(["thread", match["result"] or "0", *arguments])
        if target.startswith("%"):
            shape = ", ".join(["Thread *", "char *", *["char *"] * len(arguments)])
            return f"((void (*)({shape}))(uintptr_t){register(target)})({given});"
        if target not in self.known:
            raise TranslationError(f"unknown function {target!r}")
        return f"{self.known[target]}({given});"

    def declare(self, text: str) -> None:
        """Append what a directive declares: registers, or memory of this thread."""
        if text.startswith((".loc ", ".pragma ")):
            return
        place = self.lines if self.depth else self.head
        if match := re.match(r"\.reg \.(\w+) (.*)", text):
            names = []
            for item in parse.split(match[2]):
                ranged = re.fullmatch(r"(%?\w+)<(\d+)>", item)
                names += [f"{ranged[1]}{i}" for i in range(int(ranged[2]))] if ranged else [item]
            self.kinds.update(dict.fromkeys(names, match[1]))
            zeros = ", ".join(f"{register(name)} = 0" for name in names)
            place.append(f"{c_type(match[1])} {zeros};")
        elif match := DECLARATION.fullmatch(text):
            count = bits_of(match["kind"]) // 8 * int(match["count"] or 1)
            aligned = max(int(match["align"] or 1), 8)
            name = match["name"]
            place.append(f"char {name}[{count}] __attribute__((aligned({aligned})));")
            self.symbols[name] = pointer(name)
        else:
            raise TranslationError(f"unknown declaration {text!r}")
