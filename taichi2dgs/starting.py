"""Starting Taichi on a backend: the only caller of `ti.init`."""

import contextlib
import importlib
import io
import os
from typing import Any

from taichi2dgs import surroundings

surroundings.prepare_import()
ti: Any = importlib.import_module("taichi")  # Any, as Taichi's own annotations are wrong in places


def supported(name: str) -> bool:
    """Whether this machine's Taichi was built for a backend and finds its driver."""
    with _quiet():
        return surroundings.has_driver(ti._lib.core, name)


def available() -> list[str]:
    """Backends that this machine's Taichi was built for and can see, "cpu" last."""
    return [name for name in surroundings.preference() if supported(name)]


def start(name: str) -> str:
    """Start a backend, with the options that kernels need, and return its name.

    Raises:
        RuntimeError: it is not available, or does not start.
    """
    if not supported(name):
        there = ", ".join(available())
        raise RuntimeError(f"backend {name!r} is not available here; available: {there}")
    arch = {"cpu": ti.cpu}.get(name) or getattr(ti, name)
    # The version check asks a server, and TI_ARCH would override the choice made here.
    os.environ["TI_SKIP_VERSION_CHECK"] = "ON"
    overridden = os.environ.pop("TI_ARCH", None)
    options: dict = {"fast_math": False, "enable_fallback": False, "unrolling_limit": 0}
    if folder := surroundings.cache_folder():
        options["offline_cache_file_path"] = folder
    if "TI_LOG_LEVEL" not in os.environ:
        options["log_level"] = "error"
    try:
        with _quiet():
            # On CPU, the same expression then rounds the same way wherever it stands. On CUDA it
            # may not: Taichi sets unsafe maths there, whatever fast_math is.
            ti.init(arch=arch, **options)
            # Only this thread may do this, and the first kernel may come from another.
            ti.lang.impl.get_runtime().materialize()
    except Exception as error:
        ti.reset()
        raise RuntimeError(f"backend {name!r} did not start: {error}") from error
    finally:
        if overridden is not None:
            os.environ["TI_ARCH"] = overridden
    return name


def check_options() -> None:
    """Raise RuntimeError if Taichi runs with options that break kernels."""
    wrong = {
        f"default_ip={ti.cfg.default_ip.to_string()}, expected i32": ti.cfg.default_ip != ti.i32,
        f"opt_level={ti.cfg.opt_level}, expected 1 or more": ti.cfg.opt_level < 1,
        "real_matrix_scalarize=False, expected True": not ti.cfg.real_matrix_scalarize,
    }  # the first and the last end in LLVM, the second in wrong pictures
    for option, bad in wrong.items():
        if bad:
            raise RuntimeError(f"Taichi was started with {option} by kernels that render")


@contextlib.contextmanager
def _quiet():
    """Keep Taichi's banner and warnings off the terminal."""
    if "TI_LOG_LEVEL" not in os.environ:
        ti._logging.set_logging_level("error")
    with contextlib.redirect_stdout(io.StringIO()):
        yield
