"""The methods that the paper compares with, each a start and a schedule on the same kernels."""

from pipelines.baselines.method import Method, load, names, run

__all__ = ["Method", "load", "names", "run"]
