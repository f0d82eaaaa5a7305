"""JPEG files that lack their end marker, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

START, END = b"\xff\xd8", b"\xff\xd9"
PROGRESSIVE, SCAN = 0xC2, 0xDA  # markers of a frame and of a scan
LENGTHLESS = (0x01, *range(0xD0, 0xD9))  # markers without a length: restarts and the like


def without_end(data: bytes, opened: Callable[[bytes], Image.Image]) -> Image.Image | None:
    """Read a JPEG file that lacks its end marker; None if it lacks more.

    Where pixels are missing a decoder goes on with what stands before the marker. So if that makes
    a difference, something is missing.

    Args:
        data: the file.
        opened: opens one.
    """
    whole = data.removesuffix(b"\xff")
    if not _has_all_scans(whole):
        return None
    try:
        bare, stuffed = (opened(whole + more + END) for more in (b"", _stuffing()))
        same = np.array_equal(np.asarray(bare), np.asarray(stuffed))
    except OSError:
        return None
    return bare if same else None


def _stuffing() -> bytes:
    """Return bytes that a decoder takes for pixels if it waits for any, or for a restart marker."""
    noise = np.random.default_rng(0).integers(0, 255, 4096, dtype=np.uint8).tobytes()  # no 255
    return noise + b"".join(bytes([0xFF, restart]) + noise for restart in range(0xD0, 0xD8))


def _has_all_scans(data: bytes) -> bool:
    """Whether every coefficient of a progressive file comes in all of its bits."""
    wanted: set[tuple[int, int]] = set()  # component, coefficient
    for marker, body in _segments(data):
        if marker == PROGRESSIVE:
            wanted = {(part, place) for part in body[6::3] for place in range(64)}
        if marker == SCAN and len(body) > 3:
            parts = body[1 : 1 + 2 * body[0] : 2]
            first, last, bits = body[-3], body[-2], body[-1] & 15
            if bits == 0:
                wanted -= {(part, place) for part in parts for place in range(first, last + 1)}
    return not wanted


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the marker and the content of every segment."""
    at = len(START)
    while 0 <= (at := data.find(b"\xff", at)) < len(data) - 3:
        marker = data[at + 1]
        if marker in (0, 255, *LENGTHLESS):
            at += 1 if marker == 255 else 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + length
