"""Whether every pass over a tile's list computes the squared distance q by the same instructions.

Usage: python tie_check.py FILE.ptx ...

Ties are found by comparing q, so q must come out bit by bit the same in all passes of a kernel.
Taichi's CUDA code is made with unsafe maths whatever fast_math says, so that LLVM may contract each
place in its own way. This unfolds q at each comparison with the cutoff, and exits with 1 if a
kernel has two ways, or none has a comparison.
"""

import re
import sys
from pathlib import Path

KERNEL = re.compile(r"\.entry (\w+)\(.*?\n\{(.*?)\n\}", re.S)
COMPARISON = re.compile(r"setp\.(le|gtu)(\.ftz)?\.f(32|64) %p\d+, (%f[d]?\d+), (%f[d]?\d+)")
LOAD = re.compile(r"\[(%rd\d+)(?:\+(-?\d+))?\]")
DEEPEST = 12  # operations that are unfolded


class Registers:
    """What defined each register last, in straight reading."""

    def __init__(self) -> None:
        self.reals: dict[str, str] = {}
        self.integers: dict[str, str] = {}

    def define(self, line: str) -> None:
        match = re.match(r"[\w.]+ (%\w+), ", line)
        if match and not line.startswith(("setp", "st", "@")):
            (self.reals if match[1].startswith("%f") else self.integers)[match[1]] = line

    def offset(self, register: str, depth: int = 0) -> int:
        """The constant part of an address: which field of a record is loaded."""
        code = self.integers.get(register, "")
        if match := re.match(r"mul\.wide\.s32 %rd\d+, (%r\d+), (\d+)", code):
            inner = self.integers.get(match[1], "")
            more = re.match(r"add\.s32 (%r\d+), (?!\1,)%r\d+, (-?\d+)", inner)
            return int(more[2]) * int(match[2]) if more else 0
        match = re.match(r"add\.s64 %rd\d+, (%rd\d+), (%rd\d+|-?\d+)", code)
        if not match or depth > 6:
            return 0
        if re.match(r"-?\d+$", match[2]):
            return self.offset(match[1], depth + 1) + int(match[2])
        return self.offset(match[2], depth + 1) or self.offset(match[1], depth + 1)

    def unfold(self, register: str, depth: int = 0) -> str:
        """How a number came to be, down to loads."""
        code = self.reals.get(register)
        if code is None or depth > DEEPEST:
            return "constant" if register.startswith("0") else "given"
        operation, _, rest = code.partition(" ")
        words = [word.strip() for word in rest.split(",")]
        if operation.startswith("ld"):
            match = LOAD.match(words[1])
            return f"[{self.offset(match[1]) + int(match[2] or 0)}]" if match else "[?]"
        if operation.startswith("cvt") or (operation.startswith("mul") and depth > 3):
            return "xy"
        inner = ", ".join(self.unfold(word, depth + 1) for word in words[1:])
        return f"{operation.split('.')[0]}({inner})"


def ways(body: str) -> list[str]:
    """How each comparison of a squared distance came by it."""
    registers, found = Registers(), []
    for raw in body.splitlines():
        line = " ".join(re.sub(r"//.*", "", raw).strip().rstrip(";").split())
        match = COMPARISON.match(line)
        if match and registers.reals.get(match[4], "").startswith(("fma", "add")):
            way = registers.unfold(match[4])
            if "[" in way:
                found.append(way)
        registers.define(line)
    return found


def main() -> int:
    seen = different = 0
    for path in map(Path, sys.argv[1:]):
        for name, body in KERNEL.findall(path.read_text()):
            found = ways(body)
            seen += len(found) > 1
            if len(set(found)) > 1:
                different += 1
                print(f"{path.name} {name}: {len(found)} places, in {len(set(found))} ways")
                print(*sorted(set(found)), sep="\n    ")
    print(f"of {seen} kernels, {different} compute a squared distance in more than one way")
    return int(different > 0 or not seen)


if __name__ == "__main__":
    sys.exit(main())
