"""Launches that cost little Python: a graph of one kernel takes its arguments by name.

A call of a kernel looks at the type of each argument to find the compiled one, and builds what it
passes on in Python. A graph is compiled for types that its kernel names, and does both in C++.
"""

from collections.abc import Callable
from typing import Any

import taichi as ti

_made: dict[tuple, ti.graph.Graph] = {}  # Taichi does not free all that making one takes


def launcher(kernel: Callable[..., None], owner: Any) -> Callable[[dict[str, Any]], None]:
    """Return the function that launches a kernel of arrays and numbers with a dictionary of them.

    Args:
        kernel: one whose arguments all have a type of their own, and no structs.
        owner: what stands for the running program, of which a graph is a part.
    """
    key = (owner, kernel)
    if key not in _made:
        for old in [made for made in _made if made[0] is not owner]:
            del _made[old]  # Taichi was started anew
        builder = ti.graph.GraphBuilder()
        arguments = kernel._primal.arguments  # type: ignore[attr-defined]
        builder.dispatch(kernel, *(_symbol(one.name, one.annotation) for one in arguments))
        _made[key] = builder.compile()
    return _made[key].run


def _symbol(name: str, annotation: Any) -> Any:
    """The argument of a graph that stands for one of a kernel."""
    if isinstance(annotation, ti.types.ndarray):
        return ti.graph.Arg(ti.graph.ArgKind.NDARRAY, name, annotation.dtype, ndim=annotation.ndim)
    return ti.graph.Arg(ti.graph.ArgKind.SCALAR, name, annotation)
