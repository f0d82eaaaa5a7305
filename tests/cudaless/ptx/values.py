"""PTX's types and operators as C has them."""

C_TYPES = {
    "pred": "int", "b8": "uint8_t", "u8": "uint8_t", "s8": "int8_t", "b16": "uint16_t",
    "u16": "uint16_t", "s16": "int16_t", "b32": "uint32_t", "u32": "uint32_t", "s32": "int32_t",
    "b64": "uint64_t", "u64": "uint64_t", "s64": "int64_t", "f32": "float", "f64": "double",
}  # fmt: skip
SIGNS = {
    "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
    "lo": "<", "ls": "<=", "hi": ">", "hs": ">=",
}  # fmt: skip
UNORDERED = {"equ": "ne", "neu": "eq", "ltu": "ge", "leu": "gt", "gtu": "le", "geu": "lt"}


class TranslationError(ValueError):
    """PTX that has no meaning here. Nothing is ever left out or guessed."""


def c_type(kind: str) -> str:
    """The C type of a PTX type, such as "f32"."""
    if kind not in C_TYPES:
        raise TranslationError(f"unknown type .{kind}")
    return C_TYPES[kind]


def bits_of(kind: str) -> int:
    """Width of a PTX type."""
    c_type(kind)
    return int(kind[1:])


def is_real(kind: str) -> bool:
    """Whether a PTX type is a floating-point one."""
    return kind[0] == "f"


def plain(kind: str) -> str:
    """The type in memory: untyped bits are unsigned integers."""
    return kind.replace("b", "u")


def infix(kind: str, a: str, sign: str, b: str) -> str:
    """Arithmetic modulo 2^n: signed overflow is not defined in C."""
    if is_real(kind):
        return f"({a} {sign} {b})"
    unsigned = f"uint{bits_of(kind)}_t"
    return f"(({c_type(kind)})(({unsigned}){a} {sign} ({unsigned}){b}))"


def compared(how: str, kind: str, a: str, b: str) -> str:
    """A comparison; of floating-point numbers, all but the unordered ones fail on NaN."""
    real = is_real(kind)
    if how == "ne" and real:
        return f"({a} < {b} || {a} > {b})"
    if how in SIGNS:
        return f"({a} {SIGNS[how]} {b})"
    if how in ("num", "nan") and real:
        return f"({'' if how == 'num' else '!'}({a} == {a} && {b} == {b}))"
    if how in UNORDERED and real:
        return f"(!{compared(UNORDERED[how], kind, a, b)})"
    raise TranslationError(f"unknown comparison .{how}.{kind}")
