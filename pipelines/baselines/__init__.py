"""The methods that the paper compares with, each a start and a schedule on the same kernels."""

from pipelines.baselines.method import Method, run
from pipelines.baselines.shipped import load, names

__all__ = ["Method", "load", "names", "run"]
