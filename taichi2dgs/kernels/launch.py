"""Launches of one kernel again and again, where few of its arguments change.

Taichi looks at every argument at every launch. For the 30 of a step that takes 0.6 ms of Python,
during which all cores but one wait: a third of a step of 128x128 pixels. What it finds out is the
same every time, and so is done once here.

On CPU only: elsewhere Taichi's launch changes what it was given.
"""

from typing import Any

import taichi as ti


class Relaunch:
    """A kernel with its arguments.

    It keeps the arrays among them alive, and must be dropped where they are to be freed.

    Args:
        kernel: what `ti.kernel` made, without template arguments.
        arguments: all of them, by name.
    """

    def __init__(self, kernel: Any, arguments: dict[str, Any]) -> None:
        primal = kernel._primal
        self.types = {argument.name: argument.annotation for argument in primal.arguments}
        self.places = {name: (index,) for index, name in enumerate(self.types)}
        self.arguments = {name: arguments[name] for name in self.types}
        values = self.arguments.values()
        made = primal.compiled_kernels[primal.ensure_compiled(*values)]
        program = ti.lang.impl.get_runtime().prog
        self.context = made.make_launch_context()
        self.compiled = program.compile_kernel(program.config(), program.get_device_caps(), made)
        self.arrays = [
            (self.places[name], value.arr)
            for name, value in self.arguments.items()
            if isinstance(value, ti.Ndarray)
        ]
        for name, value in self.arguments.items():
            self._set(name, value)

    def has(self, arguments: dict[str, Any]) -> bool:
        """Whether these are among its arguments, and not only equal to them."""
        return all(self.arguments[name] is value for name, value in arguments.items())

    def __call__(self, **changed: Any) -> None:
        """Launch it, with other numbers than before where some are given.

        Args:
            changed: numbers by name, and for a structure of float32 its numbers in order.
        """
        for name, value in changed.items():
            self._set(name, value)
        for place, array in self.arrays:  # a launch turns arrays into what no launch can use again
            self.context.set_arg_ndarray(place, array)
        ti.lang.impl.get_runtime().prog.launch_kernel(self.compiled, self.context)

    def _set(self, name: str, value: Any) -> None:
        place = self.places[name]
        if isinstance(value, tuple):
            for index, number in enumerate(value):
                self.context.set_struct_arg_float((*place, index), number)
        elif isinstance(value, ti.Struct):
            self.types[name].set_kernel_struct_args(value, self.context, place)
        elif isinstance(value, float):
            self.context.set_arg_float(place, value)
        elif not isinstance(value, ti.Ndarray):
            self.context.set_arg_int(place, int(value))
