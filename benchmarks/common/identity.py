"""Which code is measured: the commit, what differs from it, and which copy of the package."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import nets
import pipelines
import taichi2dgs

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks/results"
MEASURING = ("costs", "fits", "quality")  # modules beside this one
METHODS = "configs/baselines"  # the folder with the settings of each method


def commit(root: Path = ROOT) -> str:
    """Return the commit of a checkout, with a digest of what its tracked files differ by.

    Tables and figures do not count, since a script that is resumed has written some itself.
    """
    outside = [".", f":(exclude){RESULTS.relative_to(ROOT).as_posix()}"]
    try:
        name = git(root, "describe", "--always").decode().strip()
        changes = git(root, "diff", "HEAD", "--no-ext-diff", "--binary", "--", *outside)
    except (OSError, subprocess.CalledProcessError):  # no git, or no checkout
        return f"version {taichi2dgs.__version__}"
    return f"{name}-dirty-{digest(changes)}" if changes else name


def git(root: Path, *arguments: str) -> bytes:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


def measured_package(root: Path = ROOT) -> str:
    """Return which package is measured: that of this checkout, or an installed copy like it.

    Raises:
        ValueError: the package that Python imports differs from this checkout's.
    """
    packages = (nets, pipelines, taichi2dgs)
    places = {package.__name__: Path(package.__file__ or "").parent for package in packages}
    if all(place == root / name for name, place in places.items()):
        return "of the checkout"
    places["configs"] = places["pipelines"] / "configs"
    for name, place in places.items():
        theirs, ours = contents(place), contents(root / name)
        if name == "pipelines":
            theirs = {path: own for path, own in theirs.items() if path.parts[0] != "configs"}
        if theirs != ours:
            path = min(p for p in {*theirs, *ours} if theirs.get(p) != ours.get(p))
            raise ValueError(
                f"{place / path} differs from {root / name / path}, and is what Python imports; "
                "expected this checkout: pip install -e . or set PYTHONPATH to it"
            )
    return "installed, the same as the checkout's"


def contents(folder: Path) -> dict[Path, str]:
    """Return the digests of a package's files, by their paths in it."""
    return {
        path.relative_to(folder): digest(path.read_bytes())
        for path in folder.rglob("*")
        if path.suffix in (".py", ".yaml", ".pt", ".json")
    }


def code_digest(script: Path) -> str:
    """Return a digest of all code that says what a script measures.

    That is the package, the script, and what measures beside it. How a page looks does not count,
    nor do the settings of methods, of which each row has the digest of its own.
    """
    paths = [Path(__file__).with_name(f"{name}.py") for name in MEASURING]
    own = [path.read_bytes() for path in (*paths, script) if path.is_file()]
    return digest(package_digest(without=METHODS).encode() + b"".join(own))


def package_digest(root: Path = ROOT, without: str | None = None) -> str:
    """Return a digest of the checkout's code, weights and configurations that measurements use.

    Args:
        root: of the checkout.
        without: a folder of it that does not count.
    """
    folders = ("nets", "pipelines", "taichi2dgs", "configs")
    found = {
        Path(name) / path: own for name in folders for path, own in contents(root / name).items()
    }
    names = [
        f"{path.as_posix()} {own}"
        for path, own in found.items()
        if without is None or not path.is_relative_to(without)
    ]
    return digest("\n".join(sorted(names)).encode())
