"""From pictures to Gaussians: starts, the prior, its training, and the command line."""

from pipelines.inits import INITS, initialize, initialize_batch

__all__ = ["INITS", "initialize", "initialize_batch"]
