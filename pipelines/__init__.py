"""From pictures to Gaussians: starts, and what is built on the renderer and the fit."""

from pipelines.starts import initialize

__all__ = ["initialize"]
