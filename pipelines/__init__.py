"""From pictures to Gaussians: starts, the prior, its training, and the command line."""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    """Import what is asked for, and no more: the command line answers `--help` before torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = pkgutil.resolve_name(_HOMES[name])
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
