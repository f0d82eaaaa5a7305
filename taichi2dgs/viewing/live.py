"""A fit as pages see it while it goes on: its curve, and snapshots of its Gaussians."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict
from typing import Any

from taichi2dgs.fitting.options import Report

SHARE = 0.05  # of the fit's time that snapshots may take
POINTS = 400  # of the curve that are kept, at most


class Live:
    """What pages may know of a fit that goes on in another thread.

    The fit's thread calls `report`, and the server's threads call the rest. A snapshot is read
    from the device only if a page has taken the one before, and only so often that reading all of
    them takes at most a twentieth of the fit's time.

    Args:
        title: the picture's name.
        steps: that the fit may take, if they are limited.
        seconds: that it may take, if they are limited.
    """

    def __init__(self, title: str, steps: int | None = None, seconds: float | None = None) -> None:
        self.lock = threading.Lock()
        self.curve: list[tuple[float, float]] = []
        self.known: dict[str, Any] = {
            "title": title, "steps": steps, "seconds": seconds, "phase": "starting", "message": "",
            "k": 0, "step": 0, "elapsed": 0.0, "picture": None, "number": 0,
        }  # fmt: skip
        self.columns, self.ending = b"", b""
        self.wanted, self.stopping, self.stopped = True, False, False
        self.spent = self.last = 0.0  # seconds that all snapshots took, and the last one
        self.before = self.asked = (
            0.0  # seconds of earlier fits of a search; when a page last asked
        )
        self.seen = threading.Event()  # a page has all there is

    # What the fit's thread calls.

    def report(self, k: int, report: Report) -> None:
        """Take note of a report of `fit`, and end the fit if a page has asked for that.

        Args:
            k: number of Gaussians.
            report: that of `on_report`.

        Raises:
            KeyboardInterrupt: a page has asked; once only, so that the fit can report once more.
        """
        with self.lock:
            if report.step == 0:
                self.before += self.known["elapsed"]
                self.curve.clear()
            self.curve.append((report.seconds, report.psnr))
            if len(self.curve) > POINTS:
                del self.curve[1:-1:2]
            self.known.update(phase="fitting", k=k, step=report.step, elapsed=report.seconds)
        if self.wanted and self.spent + self.last <= SHARE * (self.before + report.seconds):
            self._take(report)
        if self.stopping and not self.stopped:
            self.stopped = True
            raise KeyboardInterrupt

    def _take(self, report: Report) -> None:
        began = time.perf_counter()
        g = report.gaussians
        columns = g.packed().detach().cpu().numpy().T.astype("<f4", order="C").tobytes()
        settings = asdict(g.settings)
        settings["topK"] = settings.pop("top_k")
        with self.lock:
            height, width = g.size
            self.known["picture"] = {
                "height": height, "width": width, "channels": g.channels, "settings": settings,
                "maps": [asdict(one) for one in g.maps],
            }  # fmt: skip
            self.columns, self.wanted = columns, False
            self.known["number"] += 1
        self.last = time.perf_counter() - began
        self.spent += self.last

    def finish(self, phase: str, file: bytes = b"", message: str = "") -> None:
        """Say that the fit has ended.

        Args:
            phase: "done", "stopped" or "failed".
            file: the .t2d file that it has made.
            message: why it failed.
        """
        with self.lock:
            self.ending = file
            self.known.update(phase=phase, message=message)

    def wait_until_seen(self, seconds: float = 10.0) -> None:
        """Wait until a page has taken the file, if one is there that follows the fit."""
        if time.monotonic() - self.asked < 2.0:
            self.seen.wait(seconds)

    # What the server's threads call.

    def state(self) -> bytes:
        """Return what is known, as JSON."""
        self.asked = time.monotonic()
        with self.lock:
            curve = [(round(x, 3), _finite(y)) for x, y in self.curve]
            psnr = curve[-1][1] if curve else None
            known = {**self.known, "psnr": psnr, "curve": curve}
            if known["phase"] == "failed":
                self.seen.set()
        return json.dumps(known, separators=(",", ":")).encode()

    def snapshot(self) -> bytes | None:
        """Return the columns of parameters as they were last read, float32; ask for others."""
        self.wanted = True
        return self.columns or None

    def file(self) -> bytes | None:
        """Return the .t2d file, once there is one."""
        if self.ending:
            self.seen.set()
        return self.ending or None

    def stop(self) -> None:
        """Have the fit end with what is there."""
        self.stopping = True


def _finite(psnr: float) -> float:
    """A PSNR as JSON can hold it: a perfect render has an infinite one."""
    return round(min(psnr, 999.0), 3)
