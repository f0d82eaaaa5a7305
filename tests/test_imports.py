"""Imports go one way: kernels -> taichi2dgs, nets, then pipelines, then benchmarks.

Imports inside functions count, and so do those for type checkers alone.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "taichi2dgs": {"taichi2dgs"},
    "nets": {"nets"},
    "pipelines": {"nets", "pipelines", "taichi2dgs"},
    "benchmarks": {"nets", "pipelines", "taichi2dgs"},
}
OURS = set(MAY_IMPORT)
# A picture to Gaussians in one call needs the starts: the one place that looks up.
DOORS = {("taichi2dgs.encode", "pipelines.encoding")}
# Kernels are the only Taichi; what starts it, and makes its arrays, is the runtime.
TAICHI = {"taichi2dgs.runtime"}
# Files of one package that import each other, directly or not. This list may only shrink.
CIRCLES = [
    {"edit", "engine", "files", "fit", "gaussians", "pictures", "refine", "render", "streams",
     "t2d", "workspace"},
]  # fmt: skip


def modules(folder: str) -> dict[str, Path]:
    """The modules of a package, by their names."""
    found = {}
    for path in (ROOT / folder).rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: set[str]) -> Iterator[str]:
    """Names of the modules that a module imports, ours as exactly as they are known."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            for alias in node.names:
                yield exact if (exact := f"{base}.{alias.name}") in known else base


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_imports_go_one_way(folder):
    found = modules(folder)
    known = {name for ours in OURS for name in modules(ours)}
    assert len(found) > 3
    for name, path in found.items():
        for imported in imports(name, path, known):
            top = imported.split(".")[0]
            inner = name in TAICHI or ".kernels." in name
            assert top != "taichi" or inner, f"{path} imports {imported}"
            allowed = top not in OURS or top in MAY_IMPORT[folder] or (name, imported) in DOORS
            assert allowed, f"{path} imports {imported}"
            if ".kernels" in name and top == "taichi2dgs":
                assert ".kernels" in imported, f"{path} imports {imported}"


def circles(folder: str) -> list[set[str]]:
    """Sets of modules of a package that reach each other, of two or more."""
    found = {name: path for name, path in modules(folder).items() if path.name != "__init__.py"}
    edges = {
        name: set(imports(name, path, set(found))) & set(found) for name, path in found.items()
    }
    reach = {name: set(edges[name]) for name in found}
    for through in found:
        for name in found:
            if through in reach[name]:
                reach[name] |= reach[through]
    around = {frozenset(b for b in reach[a] if a in reach[b]) for a in found if a in reach[a]}
    return [{name.removeprefix(f"{folder}.") for name in circle} for circle in around]


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_no_new_circles_of_files(folder):
    known = CIRCLES if folder == "taichi2dgs" else []
    for circle in circles(folder):
        assert any(circle <= old for old in known), f"{folder}: {sorted(circle)}"


def test_lazy_and_relative_imports_are_seen(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(
        "import a.b, c\nfrom . import sibling\nfrom .other import thing\n"
        "def lazy():\n    if True:\n        from pipelines import encoding\n"
    )
    known = {"nets.sibling", "pipelines.encoding"}
    found = list(imports("nets.own", path, known))
    assert found == ["a.b", "c", "nets.sibling", "nets.other", "pipelines.encoding"]
