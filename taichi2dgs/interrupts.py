"""A Ctrl-C that is never lost."""

import _thread
import signal
import sys
import threading
from typing import Any

LATER = 0.05  # seconds in which a finaliser, and what Python calls with its error, have ended


def keep() -> None:
    """Let a Ctrl-C that arrives while an object is finalised come a moment after it.

    Python drops what a finaliser raises. One often runs right after a long call of Taichi, in
    which a Ctrl-C has waited: of every thirty that came while kernels compiled, one was lost.
    """
    if not isinstance(sys.unraisablehook, _Again):
        sys.unraisablehook = _Again(sys.unraisablehook)


class _Again:
    """Raises Ctrl-C once more, and leaves all other errors to the hook that was there."""

    def __init__(self, before: Any) -> None:
        self.before = before

    def __call__(self, unraisable: Any) -> None:
        if unraisable.exc_type is not None and issubclass(unraisable.exc_type, KeyboardInterrupt):
            again = threading.Timer(LATER, _interrupt)
            again.daemon = True
            again.start()
        else:
            self.before(unraisable)


def _interrupt() -> None:
    if hasattr(signal, "pthread_kill"):  # which wakes a main thread that waits
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()
