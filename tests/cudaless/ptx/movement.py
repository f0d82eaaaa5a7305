"""Opcodes that move: between registers, types and memory, and from one place of code to another."""

from ptx.instruction import Instruction, opcode
from ptx.parse import split
from ptx.values import TranslationError, bits_of, c_type, infix, is_real, plain

SPACES = "global local param const"  # all are memory of the host
ORDERS = "volatile relaxed acquire release acq_rel cta gpu sys"  # threads run one by one: all hold


@opcode("mov")
def move(it: Instruction) -> str:
    kind = it.kind
    target, source = it.words
    if not target.startswith("{") and not source.startswith("{"):
        return it.result(it.operand(1))
    names = split((target if target.startswith("{") else source).strip("{}"))
    width = bits_of(kind) // len(names)
    part = f"b{width}"
    if target.startswith("{"):
        value = it.operand(1)
        return "".join(
            it.body.write(name, part, f"(({value}) >> {width * i})") for i, name in enumerate(names)
        )
    shifted = (
        f"(({c_type(kind)}){it.body.read(name, part)} << {width * i})"
        for i, name in enumerate(names)
    )
    return it.result(" | ".join(shifted))


@opcode("cvta", f"to {SPACES}")
def convert_address(it: Instruction) -> str:
    return it.result(it.operand(1))


@opcode("cvt", "rn rni rmi rpi rzi ftz sat", types=2)
def convert(it: Instruction) -> str:
    to, of = it.parts[-2:]
    value, flush = it.operand(1, of), it.has("ftz")
    if flush and of == "f32":
        value = f"ftz({value})"
    rounders = {"rmi": "floor", "rpi": "ceil", "rzi": "trunc", "rni": "rint"}
    rounder = next((rounders[p] for p in it.parts if p in rounders), None)
    if is_real(of) and rounder:
        value = f"{rounder}{'f' if of == 'f32' else ''}({value})"
    if is_real(of) and not is_real(to):
        if to not in ("s32", "u32", "s64", "u64") or not rounder:
            raise TranslationError(f"no conversion from .{of} to .{to}")
        return it.result(f"to_{to}({value})", to)
    value = f"(({c_type(to)}){value})"
    if it.has("sat"):
        if not is_real(to):
            raise TranslationError("unknown modifier .sat of integers")
        value = f"min_{to}(1, max_{to}(0, {value}))"
    return it.result(f"ftz({value})" if flush and to == "f32" else value, to)


def vector(it: Instruction, word: str) -> list[str]:
    """Registers of an operand, of which .v2 and .v4 have several."""
    names = split(word.strip("{}")) if word.startswith("{") else [word]
    if len(names) != (2 if it.has("v2") else 4 if it.has("v4") else 1):
        raise TranslationError(f"{len(names)} elements in {word!r}")
    return names


def located(it: Instruction, index: int, what: str, size: int) -> str:
    """The address of an access, of which other threads may know unless it is a thread's own."""
    text = f"uint64_t at = {it.body.address(it.words[index])};"
    return text if it.has("local", "param", "const") else f"{text} WATCH(at, {size}, {what});"


@opcode("ld", f"{SPACES} {ORDERS} nc v2 v4")
@opcode("ldu", f"{SPACES} v2 v4")
def load(it: Instruction) -> str:
    kind, size = plain(it.kind), bits_of(it.kind) // 8
    parts = [
        it.body.write(name, kind, f"ld_{kind}(at + {i * size})")
        for i, name in enumerate(vector(it, it.words[0]))
    ]
    return f"{{ {located(it, 1, 'READ', size * len(parts))} {' '.join(parts)} }}"


@opcode("st", f"{SPACES} {ORDERS} v2 v4")
def store(it: Instruction) -> str:
    kind, size = plain(it.kind), bits_of(it.kind) // 8
    parts = [
        f"st_{kind}(at + {i * size}, {it.body.read(name, kind)});"
        for i, name in enumerate(vector(it, it.words[1]))
    ]
    return f"{{ {located(it, 0, 'WRITE', size * len(parts))} {' '.join(parts)} }}"


@opcode("atom", f"global {ORDERS} add exch cas min max and or xor")
def atomic(it: Instruction) -> str:
    kind = plain(it.kind)
    value = it.operand(2, kind)
    results = {
        "add": infix(kind, "old", "+", value),
        "exch": value,
        "and": f"(old & {value})",
        "or": f"(old | {value})",
        "xor": f"(old ^ {value})",
        "min": f"(old < {value} ? old : {value})",
        "max": f"(old > {value} ? old : {value})",
    }
    if it.has("cas"):
        results["cas"] = f"(old == {value} ? {it.operand(3, kind)} : old)"
    new = next(results[part] for part in it.parts if part in results)
    return (
        f"{{ {located(it, 1, 'UPDATE', bits_of(kind) // 8)} {c_type(kind)} old = ld_{kind}(at); "
        f"st_{kind}(at, {new}); {it.result('old', kind)} }}"
    )


@opcode("red", f"global {ORDERS} add min max and or xor")
def reduction(it: Instruction) -> str:
    return atomic(Instruction(it.body, it.parts, ["_", *it.words]))


@opcode("membar", "gl cta sys", types=0)
@opcode("fence", f"sc {ORDERS}", types=0)
def fence(it: Instruction) -> str:
    return ";"


@opcode("bra", "uni", types=0)
def branch(it: Instruction) -> str:
    return f"goto {it.words[0]};"


@opcode("brx", "idx uni", types=0)
def branch_by_table(it: Instruction) -> str:
    targets = enumerate(it.body.tables[it.words[1]])
    cases = "".join(f"case {i}: goto {target};" for i, target in targets)
    return f"switch ({it.operand(0, 'u32')}) {{ {cases} }}"


@opcode("ret", "uni", types=0)
def leave(it: Instruction) -> str:
    return "return;"


@opcode("exit", types=0)
def end_thread(it: Instruction) -> str:
    return "longjmp(next_thread, 1);"


@opcode("trap", types=0)
def trap(it: Instruction) -> str:
    return 'stop(LAUNCH_FAILED, "trap");'
