"""A whole PTX module in C."""

from ptx import arithmetic, movement, parse  # noqa: F401  (both register opcodes)
from ptx.body import Body
from ptx.values import TranslationError, bits_of, c_type

# Functions of CUDA's device library, which a driver brings.
BUILT_IN = {
    "__assertfail": "stop(ASSERTION, (const char *)(uintptr_t)ld_u64((uint64_t)(uintptr_t)p0));",
    "vprintf": "if (result) memset(result, 0, 4);",  # what kernels print is not shown
}


def translate(text: str) -> str:
    """Return C in which a function launch_NAME runs each kernel NAME over its threads.

    Raises:
        TranslationError: the module has something that is not understood; the message names it.
    """
    module = parse.module(text)
    known = {function.name: f"fn_{function.name}" for function in module.functions}
    known |= {variable.name: f"g_{variable.name}" for variable in module.variables}
    parts = ['#include "prelude.h"', *map(_variable, module.variables)]
    parts += dict.fromkeys(f"{_head(function)};" for function in module.functions)
    defined = {function.name for function in module.functions if function.body is not None}
    for function in module.functions:
        if function.body is not None:
            try:
                parts.append(f"{_head(function)} {{\n{Body(function, known).translate()}\n}}")
            except TranslationError as error:
                raise TranslationError(f"{error} in {function.name}") from None
            if function.what == "entry":
                parts.append(_launcher(function))
        elif function.name not in defined:
            parts.append(_foreign(function))
            defined.add(function.name)
    return "\n".join([*parts, ""])


def _head(function: parse.Function) -> str:
    given = "".join(f", char *p{i}" for i in range(len(function.params)))
    return (
        f"static __attribute__((unused)) void fn_{function.name}"
        f"(Thread *thread, char *result{given})"
    )


def _launcher(function: parse.Function) -> str:
    given = "".join(f", (char *)params[{i}]" for i in range(len(function.params)))
    name = function.name
    return (
        f"static void run_{name}(Thread *thread, void **params) {{\n"
        f"  fn_{name}(thread, 0{given});\n}}\n"
        f"void launch_{name}(void **params, int order, Thread *thread, Stop stop, Watch watch) {{\n"
        f"  each_thread(run_{name}, params, order, thread, stop, watch);\n}}"
    )


def _foreign(function: parse.Function) -> str:
    """A function that the module declares and does not have: an error when it is called."""
    action = BUILT_IN.get(
        function.name, f'stop(NOT_SUPPORTED, "unknown function {function.name}");'
    )
    return f"{_head(function)} {{ {action} }}"


def _variable(variable: parse.Variable) -> str:
    if not variable.value:
        size = bits_of(variable.kind) // 8 * variable.count
        shape = f"unsigned char g_{variable.name}[{size}]"
    elif variable.kind == "b8" and variable.value.startswith("{"):
        shape = f"unsigned char g_{variable.name}[{variable.count}]"
    elif variable.value.startswith("{") or variable.count == 1:
        shape = f"{c_type(variable.kind)} g_{variable.name}[{variable.count}]"
    else:
        raise TranslationError(f"unknown initialiser of {variable.name}")
    value = variable.value if variable.value.startswith("{") else f"{{{variable.value}}}"
    aligned = f"__attribute__((aligned({max(variable.align, 8)})))"
    return f"static {shape} {aligned}{f' = {value}' if variable.value else ''};"
