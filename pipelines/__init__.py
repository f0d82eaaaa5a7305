"""From pictures to Gaussians: starts, the prior, its training, and the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taichi2dgs.faces import lazy

if TYPE_CHECKING:
    from pipelines.encoding import Encoding
    from pipelines.starts.named import initialize, initialize_batch
    from pipelines.starts.names import STARTS

_HOMES = {
    "Encoding": "pipelines.encoding.Encoding",
    "STARTS": "pipelines.starts.names.STARTS",
    "initialize": "pipelines.starts.named.initialize",
    "initialize_batch": "pipelines.starts.named.initialize_batch",
}
__all__ = ["STARTS", "Encoding", "initialize", "initialize_batch"]

__getattr__, __dir__ = lazy(__name__, _HOMES)
