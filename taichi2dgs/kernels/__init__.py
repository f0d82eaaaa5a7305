"""Taichi kernels: no torch, no allocation, no checks. The wrappers above this package do those."""
