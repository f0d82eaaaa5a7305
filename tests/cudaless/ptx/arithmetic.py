"""Opcodes that compute: integers, floating-point numbers, bits and comparisons."""

from ptx.instruction import Instruction, opcode
from ptx.values import TranslationError, bits_of, c_type, compared, infix, is_real, plain


def simple(name: str, integer: str | None, real: str | None = None, modifiers: str = "") -> None:
    """Register an opcode that is one expression: # is the type, ~ the f of C's float functions."""

    def handler(it: Instruction) -> str:
        formula = real if it.kind != "pred" and is_real(it.kind) else integer
        if formula is None:
            raise TranslationError(f"unknown type .{it.kind}")
        single = "f" if it.kind == "f32" else ""
        return it.computed(formula.replace("#", it.kind).replace("~", single))

    opcode(name, modifiers)(handler)


def approximable(name: str, exact: str | None, modifiers: str) -> None:
    """Register a function of floats that is inexact with .approx or .full, in 32 bits only."""

    def handler(it: Instruction) -> str:
        loose = it.has("approx", "full")
        if not is_real(it.kind) or (exact is None and it.kind != "f32"):
            raise TranslationError(f"unknown type .{it.kind}")
        single = "f" if it.kind == "f32" else ""
        formula = (exact or CALLS[name]).replace("~", single)
        return it.computed(f"approximate({formula})" if loose and single else formula)

    opcode(name, modifiers)(handler)


CALLS = {"ex2": "exp2~({0})", "lg2": "log2~({0})", "sin": "sin~({0})", "cos": "cos~({0})"}
simple("min", "({0} < {1} ? {0} : {1})", "min_#({0}, {1})", "ftz")
simple("max", "({0} > {1} ? {0} : {1})", "max_#({0}, {1})", "ftz")
simple("rem", "rem_#({0}, {1})")
simple("and", "({0} & {1})")
simple("or", "({0} | {1})")
simple("xor", "({0} ^ {1})")
simple("fma", None, "fma~({0}, {1}, {2})", "rn ftz sat")
simple("copysign", None, "copysign~({1}, {0})")
approximable("rcp", "(1 / {0})", "rn approx ftz")
approximable("sqrt", "sqrt~({0})", "rn approx ftz")
approximable("rsqrt", "(1 / sqrt~({0}))", "approx ftz")
for _name in CALLS:
    approximable(_name, None, "approx ftz")


@opcode("add", "rn ftz sat cc")
@opcode("sub", "rn ftz sat cc")
@opcode("addc", "cc")
@opcode("subc", "cc")
def add(it: Instruction) -> str:
    if it.has("cc") or it.parts[0].endswith("c"):
        return carried(it)
    sign = "+" if it.parts[0] == "add" else "-"
    return it.computed(lambda a, b: infix(it.kind, a, sign, b))


def carried(it: Instruction) -> str:
    """Additions that leave or take a carry, as inline assembly of wide arithmetic has them."""
    kind = f"u{bits_of(it.kind)}"
    values = [it.operand(i, kind) for i in range(1, len(it.words))]
    wide = "(unsigned __int128)" if kind == "u64" else "(uint64_t)"
    carry = "carry" if it.parts[0].endswith("c") else "0"
    if it.parts[0].startswith("mad"):
        if not it.has("hi", "lo"):
            raise TranslationError("a carry without .hi or .lo")
        shift = kind[1:] if it.has("hi") else "0"
        first = f"({c_type(kind)})(({wide}{values[0]} * {values[1]}) >> {shift})"
        total = f"{wide}({first}) + {values[2]} + {carry}"
    else:  # of a difference, the carry says that something was borrowed
        sign = "+" if it.parts[0].startswith("add") else "-"
        total = f"{wide}{values[0]} {sign} {values[1]} {sign} {carry}"
    kept = f"carry = total >> {kind[1:]} & 1;" if it.has("cc") else ""
    return f"{{ __auto_type total = {total}; {it.result('total', kind)} {kept} }}"


@opcode("mul", "rn ftz sat lo hi wide")
@opcode("mad", "rn ftz sat lo hi wide cc")
@opcode("madc", "lo hi cc")
def mul(it: Instruction) -> str:
    if it.has("cc") or it.parts[0] == "madc":
        return carried(it)
    kind, more = it.kind, it.parts[0] == "mad"
    if is_real(kind):
        single = "f" if kind == "f32" else ""
        return it.computed(f"fma{single}({{0}}, {{1}}, {{2}})" if more else "({0} * {1})")
    a, b = it.operand(1), it.operand(2)
    into = f"{kind[0]}{2 * bits_of(kind)}" if it.has("wide") else kind
    if it.has("wide"):
        value = f"(({c_type(into)}){a} * ({c_type(into)}){b})"
    elif it.has("hi"):
        big = "__int128" if kind[0] == "s" else "unsigned __int128"
        value = f"(({c_type(kind)})((({big}){a} * ({big}){b}) >> {bits_of(kind)}))"
    elif it.has("lo"):
        value = infix(kind, a, "*", b)
    else:
        raise TranslationError("a product without .lo, .hi or .wide")
    return it.result(infix(into, value, "+", it.operand(3, into)) if more else value, into)


@opcode("div", "rn ftz approx full")
def div(it: Instruction) -> str:
    if not is_real(it.kind):
        return it.computed(f"div_{it.kind}({{0}}, {{1}})")
    loose = it.has("approx", "full") and it.kind == "f32"
    return it.computed("approximate({0} / {1})" if loose else "({0} / {1})")


@opcode("neg", "ftz")
def neg(it: Instruction) -> str:
    return it.computed(lambda a: f"(-{a})" if is_real(it.kind) else infix(it.kind, "0", "-", a))


@opcode("abs", "ftz")
def absolute(it: Instruction) -> str:
    if is_real(it.kind):
        return it.computed(f"fabs{'f' if it.kind == 'f32' else ''}({{0}})")
    return it.computed(lambda a: f"({a} < 0 ? {infix(it.kind, '0', '-', a)} : {a})")


@opcode("not")
def inverted(it: Instruction) -> str:
    return it.computed("(!{0})" if it.kind == "pred" else "(~{0})")


@opcode("shl")
@opcode("shr")
def shift(it: Instruction) -> str:
    kind = f"u{bits_of(it.kind)}" if it.parts[0] == "shl" else plain(it.kind)
    call = f"shl_{kind[1:]}" if it.parts[0] == "shl" else f"shr_{kind}"
    return it.result(f"{call}({it.operand(1, kind)}, {it.operand(2, 'u32')})", kind)


@opcode("bfe")
def bit_field(it: Instruction) -> str:
    at, count = it.operand(2, "u32"), it.operand(3, "u32")
    return it.result(f"bfe_{it.kind}({it.operand(1)}, {at}, {count})")


@opcode("popc")
def population(it: Instruction) -> str:
    return it.result(f"__builtin_popcountll({it.operand(1)})", "u32")


@opcode("clz")
def leading_zeros(it: Instruction) -> str:
    bits, value = bits_of(it.kind), it.operand(1)
    return it.result(f"({value} ? __builtin_clzll({value}) - {64 - bits} : {bits})", "u32")


@opcode("selp")
def select(it: Instruction) -> str:
    return it.result(f"({it.operand(3, 'pred')} ? {it.operand(1)} : {it.operand(2)})")


COMPARISONS = "eq ne lt le gt ge lo ls hi hs equ neu ltu leu gtu geu num nan"


@opcode("setp", f"ftz and or xor {COMPARISONS}")
def set_predicate(it: Instruction) -> str:
    a, b = it.operand(1), it.operand(2)
    if it.has("ftz"):
        a, b = f"ftz({a})", f"ftz({b})"
    value = compared(it.parts[1], it.kind, a, b)
    if len(it.words) > 3:
        joint = {"and": "&", "or": "|", "xor": "^"}[it.parts[2]]
        value = f"({value} {joint} {it.operand(3, 'pred')})"
    if "|" in it.words[0]:
        raise TranslationError("two predicates at once")
    return it.result(value, "pred")
