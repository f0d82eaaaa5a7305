"""Rows of a table in a JSON file, each measured once, whatever commands ask for it."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from common import identity
from taichi2dgs import runtime
from taichi2dgs.storage import files


@contextlib.contextmanager
def stopping(bar: tqdm) -> Iterator[None]:
    """Within this, Ctrl-C ends what is measured; the page of what is finished comes after it."""
    try:
        yield
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):  # the terminal is gone; the page is still to come
            bar.close()
            print("stopped; the same command goes on here", file=sys.stderr)


def code_and_device() -> str:
    """Return what tells rows of this code on this device from others."""
    return f"package {identity.package_digest()}, backend {runtime.current()}"


def named(budget: dict[str, Any]) -> str:
    """Return what a table says of a budget in steps or seconds."""
    ((unit, most),) = budget.items()
    return f"{most:g} {'s' if unit == 'seconds' else 'steps'}"


FREE = {"command", "commit"}  # what may differ between rows that are said to be of one digest


def digest_of(run: dict[str, Any]) -> str:
    """Return what tells rows from others by all that a table says of itself, but for `FREE`.

    Args:
        run: see `measure.describe`.
    """
    same = {name: said for name, said in run.items() if name not in FREE}
    return identity.digest(json.dumps(same, sort_keys=True).encode())


class Rows:
    """The rows in a JSON file, which earlier commands may have left there.

    The file has the rows that were asked for as "rows". Beside these it keeps "others", for
    commands that ask for them, but none of what "rows" has that other code, another device or
    other options made.

    Args:
        path: the file, in a folder that need not be there.
        run: what else the file says, see `measure.describe`.
        keys: names of what tells rows apart, of which the last says what made them.
    """

    def __init__(self, path: Path, run: dict[str, Any], keys: Sequence[str]) -> None:
        self.path, self.run = path, run
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            content = json.loads(path.read_text())
            rows = content.get("others", []) + content["rows"]
            self.known = {tuple(row[name] for name in keys): row for row in rows}
        except (OSError, ValueError, KeyError, TypeError):
            self.known = {}  # there is no such file yet; it will be written
        self.asked: dict[tuple, None] = {}  # in order

    def lacks(self, keys: Iterable[tuple]) -> bool:
        """Whether one of some rows is not there."""
        return any(key not in self.known for key in keys)

    def want(self, keys: list[tuple], make: Callable[[], Iterable[dict]]) -> None:
        """Ask for some rows, which are made together, and kept, if one of them is not there."""
        made = dict(zip(keys, make(), strict=True)) if self.lacks(keys) else {}
        self.known |= made
        self.asked |= dict.fromkeys(keys)
        if made:
            self._write()

    def finish(self, keys: Iterable[tuple] | None = None, **said: Any) -> list[dict]:
        """Write the table, and return its rows.

        Args:
            keys: of the rows, in their order; all that were asked for if None.
            said: what the file says of the table, in place of what `run` had.
        """
        self.run = {**self.run, **said}
        if keys is not None:
            self.asked = dict.fromkeys(keys)
        return self._write()

    def _write(self) -> list[dict]:
        rows = [self.known[key] for key in self.asked]
        asked = {key[:-1] for key in self.asked}
        others = [row for key, row in self.known.items() if key[:-1] not in asked]
        content = {**self.run, "rows": rows} | ({"others": others} if others else {})
        with files.replacing(self.path) as temporary:
            Path(temporary).write_text(json.dumps(content, indent=1) + "\n")
        return rows
