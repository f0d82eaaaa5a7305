"""Taichi kernels: no torch, no allocation, no checks. The wrappers above this package do those."""

from taichi2dgs import surroundings

surroundings.prepare_import()  # the modules of this package import Taichi
