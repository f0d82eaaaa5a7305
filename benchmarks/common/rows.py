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
        bar.close()
        print("stopped; the same command goes on here", file=sys.stderr)


def made_by() -> str:
    """Return what tells rows of this code on this device from others."""
    return f"package {identity.package_digest()}, backend {runtime.current()}"


def named(budget: dict[str, Any]) -> str:
    """Return what a table says of a budget in steps or seconds."""
    ((unit, most),) = budget.items()
    return f"{most:g} {'s' if unit == 'seconds' else 'steps'}"


class Rows:
    """The rows in a JSON file.

    Args:
        path: the file, which may be there.
        run: what else the file says, see `measure.describe`.
        keys: names of what tells rows apart.
    """

    def __init__(self, path: Path, run: dict[str, Any], keys: Sequence[str]) -> None:
        self.path, self.run = path, run
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            rows = json.loads(path.read_text())["rows"]
            self.known = {tuple(row[name] for name in keys): row for row in rows}
        except (OSError, ValueError, KeyError, TypeError):
            self.known = {}  # there is no such file yet; it will be written
        self.asked: list[dict] = []

    def lacks(self, keys: list[tuple]) -> bool:
        """Whether one of some rows is not there."""
        return any(key not in self.known for key in keys)

    def want(self, keys: list[tuple], make: Callable[[], Iterable[dict]]) -> None:
        """Ask for some rows, which are made together if one of them is not there."""
        if self.lacks(keys):
            self.known |= dict(zip(keys, make(), strict=True))
            self.write()
        self.asked += [self.known[key] for key in keys]

    def write(self) -> None:
        """Write all rows that are known, as after each that is made."""
        write(self.path, self.run, list(self.known.values()))


FREE = {"command", "commit", "others"}  # what may differ between rows of one table


def earlier(path: Path, run: dict[str, Any]) -> list[dict]:
    """Return the rows that a table of the same code, options and machine has already.

    Args:
        path: of its JSON file, which may be there.
        run: what the table says of itself, but for `FREE`.
    """
    try:
        content = json.loads(path.read_text())
        found = content.pop("rows") + content.get("others", [])
        same = content.keys() - FREE == run.keys() - FREE
        same = same and all(content[name] == run[name] for name in run.keys() - FREE)
    except (OSError, ValueError, KeyError, AttributeError):
        return []  # there is no such table; it will be written
    return found if same else []


def write(path: Path, run: dict[str, Any], rows: list[dict], known: Sequence[dict] = ()) -> None:
    """Write rows and what was run to a JSON file, in a folder that need not be there.

    Args:
        path: of the file.
        run: what the table says of itself.
        rows: of the table.
        known: rows to go on from; those that are not of the table are kept as "others".
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    others = [row for row in known if row not in rows]
    content = {**run, "rows": rows} | ({"others": others} if others else {})
    with files.replacing(path) as temporary:
        Path(temporary).write_text(json.dumps(content, indent=1) + "\n")
