"""Which device Taichi runs on, and what belongs to it: the only lock."""

import collections
import contextlib
import ctypes
import logging
import os
import threading
import weakref
from typing import Any

import numpy as np
import torch

from taichi2dgs import interrupts, starting, surroundings
from taichi2dgs.checks import shown
from taichi2dgs.settings import BACKENDS
from taichi2dgs.starting import ti

DOUBLE = ("cuda", "cpu")  # backends whose kernels can be float64
VARIABLE = "TAICHI2DGS_BACKEND"

# Taichi's tracer and runtime are global state, and torch runs backward passes on other threads.
lock = threading.RLock()
log = logging.getLogger("taichi2dgs")

_dropped: collections.deque = collections.deque()  # arrays to free, as (owner, handle)
_forked = False  # whether Taichi had started when this process was forked
_checked: Any = None  # the owner whose options are known to be right


def init(backend: str | None = None) -> str:
    """Start the backend that renders and fits, once per process.

    Args:
        backend: "auto", "cuda", "vulkan", "metal", "opengl" or "cpu". None reads the environment
            variable TAICHI2DGS_BACKEND, else means "auto": the first of cuda, metal, vulkan (given
            hardware for it) and cpu that starts and counts right. If the script has started Taichi
            itself, that runtime is used.

    Returns:
        The name of the backend that runs.

    Raises:
        ValueError: the name is unknown.
        RuntimeError: the backend is not available, another one runs already, the script has started
            Taichi with options that cannot work, or this process was forked after Taichi started.

    >>> init() in BACKENDS
    True
    """
    chosen = os.environ.get(VARIABLE) or "auto" if backend is None else backend
    if not isinstance(chosen, str) or chosen not in BACKENDS:
        name = f"{VARIABLE if backend is None else 'backend'}={shown(chosen)}"
        raise ValueError(f"{name} is unknown; expected one of {', '.join(BACKENDS)}")
    with lock:
        running = current()
        if running is None:
            _refuse_forked()
            return _start_first() if chosen == "auto" else starting.start(chosen)
        if chosen not in ("auto", running) and backend:
            raise RuntimeError(
                f"backend {running!r} already runs in this process; {chosen!r} needs a new one"
            )
        _check_options()
        return running


def stop() -> None:
    """End Taichi, which keeps what it has compiled for later processes only then.

    A process that ends by itself does that at its end; one that is killed does not. What was made
    before cannot be used any more; the next render or fit starts Taichi anew.
    """
    with lock:
        ti.reset()


def _check_options() -> None:
    """Raise RuntimeError if Taichi was started, by whomever, with options that break kernels."""
    global _checked
    if _checked is not owner():
        starting.check_options()
        interrupts.keep()
        _checked = owner()


def current() -> str | None:
    """Return the name of the running backend, whoever started it, or None.

    >>> name = init()
    >>> current() == name
    True
    """
    if program() is None:
        return None
    arch = ti.cfg.arch
    return "cpu" if arch in (ti.x64, ti.arm64) else ti._lib.core.arch_name(arch)


def device() -> torch.device:
    """The torch device whose tensors kernels read without a copy."""
    return torch.device("cuda:0" if init() == "cuda" and torch.cuda.is_available() else "cpu")


def is_gpu() -> bool:
    """Whether one thread should treat one pixel, rather than one core a whole tile."""
    return init() != "cpu"


def threads() -> int:
    """How many threads the CPU backend runs."""
    return max(1, int(ti.lang.impl.current_cfg().cpu_max_num_threads))


@contextlib.contextmanager
def launching(since=None):
    """Hold the lock while kernels launch, in order with torch's current CUDA stream.

    Taichi launches on the null stream. Torch's default stream is the same one; any other is
    waited for, and waits.

    Args:
        since: the `owner` of arrays that were made before and are to be used.

    Raises:
        RuntimeError: no backend starts, or the script has started Taichi anew since.
    """
    with lock:
        backend = init()
        if since is not None and since is not owner():
            raise RuntimeError(
                "Taichi was started anew (ti.init or ti.reset) since this render or fit began, "
                "which took its arrays; expected one runtime from beginning to end"
            )
        with surroundings.cuda_context() if backend == "cuda" else contextlib.nullcontext():
            _free_dropped()
            stream = None
            if torch.cuda.is_available() and torch.cuda.is_initialized():
                stream = torch.cuda.current_stream()
                if stream != torch.cuda.default_stream():
                    stream.synchronize()
            yield
            if stream is not None and stream != torch.cuda.default_stream():
                ti.sync()


def array(dtype, shape: tuple[int, ...]):
    """Return an array that Taichi owns; its content is undefined. Call it while `launching`.

    Args:
        dtype: "f32", "f64", "i32" or a Taichi vector type.
        shape: extents, all positive.
    """
    made = (
        _Scalars(getattr(ti, dtype), shape) if isinstance(dtype, str) else ti.ndarray(dtype, shape)
    )
    weakref.finalize(made, _drop, owner(), made.arr).atexit = False
    return made


class _Scalars(ti.lang._ndarray.ScalarNdarray):
    """An array of numbers that, as one of vectors, Taichi does not free by itself.

    Taichi would do so in any thread, and in whatever program runs then.
    """

    def __del__(self):
        pass


def program():
    """Taichi's running program, to which all its arrays belong, or None."""
    return ti.lang.impl.get_runtime().prog


def owner():
    """A weak reference to the running program: one that ended must not be kept alive."""
    return weakref.ref(program())


def _drop(since, handle) -> None:
    """Free an array now, if this thread can launch without waiting; else before the next launch."""
    _dropped.append((since, handle))
    if program() is not None and lock.acquire(blocking=False):
        try:
            with surroundings.cuda_context() if current() == "cuda" else contextlib.nullcontext():
                _free_dropped()
        finally:
            lock.release()


def _free_dropped() -> None:
    while _dropped:
        since, handle = _dropped.popleft()
        if since() is not None and since() is program():
            program().delete_ndarray(handle)


def _refuse_forked() -> None:
    if _forked:
        raise RuntimeError(
            "this process was forked after Taichi had started, whose threads it lacks; start it by "
            "spawn: multiprocessing.get_context('spawn'), DataLoader(multiprocessing_context="
            "'spawn')"
        )


def _after_fork() -> None:
    """Leave Taichi alone in a forked child: waiting for its threads, even at exit, never ends."""
    global lock, _forked
    lock = threading.RLock()  # another thread may have had the old one when the process forked
    _dropped.clear()
    if program() is not None:
        _forked = True
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(program()))  # nothing ever destroys it
        ti.lang.impl.get_runtime().prog = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def zeros(dtype: str, shape: tuple[int, ...]):
    """Return an array of zeros that Taichi owns."""
    result = array(dtype, shape)
    result.fill(0)
    return result


def sync() -> None:
    """Wait for everything that was launched."""
    with launching():
        ti.sync()


def _start_first() -> str:
    """Start the first backend that works; Vulkan only where there is hardware for it.

    A software Vulkan driver is slower than the CPU backend, and one of them loses atomic adds.
    """
    for name in surroundings.preference():
        real = name != "vulkan" or surroundings.has_graphics_hardware()
        if name != "opengl" and real and starting.supported(name):
            with contextlib.suppress(RuntimeError):
                starting.start(name)
                if name == "cpu" or counts_right():
                    log.info("backend: %s (chosen automatically)", name)
                    return name
                ti.reset()
    raise RuntimeError("no backend of Taichi starts on this machine, not even the CPU")


def counts_right() -> bool:
    """Whether the running device counts right; Mesa's llvmpipe, for one, loses atomic adds."""
    from taichi2dgs.kernels import counting

    expected = (np.arange(4096) * 7919 % 61).astype(np.int32)
    with launching():
        lengths, total = array("i32", (4096,)), zeros("i32", (1,))
        lengths.from_numpy(expected)
        counting.count(lengths, total)
        return int(total.to_numpy()[0]) == int(expected.sum())
