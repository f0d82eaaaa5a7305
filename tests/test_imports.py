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
# A picture to Gaussians in one call needs the starts, and `python -m taichi2dgs` the commands.
DOORS = {
    ("taichi2dgs.encoding", "pipelines.batch"),
    ("taichi2dgs.encoding", "pipelines.encoding"),
    ("taichi2dgs.encoding", "pipelines.progress"),
    ("taichi2dgs.__main__", "pipelines.cli"),
}
# Methods of `Gaussians` look up within the package: only these arrows may close a circle.
INNER_DOORS = {
    ("taichi2dgs.gaussians", "taichi2dgs.rendering.render"),
    ("taichi2dgs.gaussians", "taichi2dgs.fitting.refine"),
    ("taichi2dgs.gaussians", "taichi2dgs.storage.t2d"),
    ("taichi2dgs.gaussians", "taichi2dgs.viewing.notebook"),
}
# Besides kernels, Taichi is imported only where it is started.
TAICHI = {"taichi2dgs.starting"}


def modules(folder: str) -> dict[str, Path]:
    """The modules of a package, by their names."""
    found = {}
    for path in (ROOT / folder).rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: set[str]) -> Iterator[str]:
    """Names of the modules that a module imports; `known` has those of this repository."""
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
                inner = ".kernels" in imported or imported == "taichi2dgs.surroundings"
                assert inner, f"{path} imports {imported}"


def circles(arrows: dict[str, set[str]]) -> list[set[str]]:
    """Sets of modules that reach each other, of two or more."""
    reach = {name: set(targets) for name, targets in arrows.items()}
    for through in arrows:
        for name in arrows:
            if through in reach[name]:
                reach[name] |= reach[through]
    around = {frozenset(b for b in reach[a] if a in reach[b]) for a in arrows if a in reach[a]}
    return [set(circle) for circle in around]


def test_no_files_import_each_other_in_a_circle():
    found = {name: path for ours in OURS for name, path in modules(ours).items()}
    arrows = {
        name: set(imports(name, path, set(found))) & set(found) for name, path in found.items()
    }
    for name, target in DOORS | INNER_DOORS:
        arrows[name].remove(target)  # fails for a door that is not used
    assert circles(arrows) == []


def test_a_circle_of_files_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [{"a", "b", "c"}]


def test_names_come_from_the_modules_that_define_them():
    faces = {
        ours
        for ours in OURS
        if any(
            "__getattr__" in path.read_text()
            for name, path in modules(ours).items()
            if name == ours
        )
    }
    assert faces == {"taichi2dgs", "pipelines"}
    for ours in OURS - {"benchmarks"}:
        for name, path in modules(ours).items():
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module in faces and name not in faces:
                    taken = {alias.name for alias in node.names} - {"__version__"}
                    known = {f"{node.module}.{one}" for one in taken}
                    assert known <= set(modules(node.module)), f"{path}: {sorted(taken)}"


def test_lazy_and_relative_imports_are_seen(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(
        "import a.b, c\nfrom . import sibling\nfrom .other import thing\n"
        "def lazy():\n    if True:\n        from pipelines import encoding\n"
    )
    known = {"nets.sibling", "pipelines.encoding"}
    found = list(imports("nets.own", path, known))
    assert found == ["a.b", "c", "nets.sibling", "nets.other", "pipelines.encoding"]
