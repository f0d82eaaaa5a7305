"""The documentation: its examples run, its commands are understood, its links lead somewhere."""

import pkgutil
import re
import shlex
from pathlib import Path

import pytest

from pipelines import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(ROOT.glob("docs/*.md"))
TEXTS = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
DOTTED = re.compile(r"`((?:taichi2dgs|nets|pipelines)(?:\.[A-Za-z_]\w*)+)[`(]")
PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]*)[` ]")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page that are of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), flags=re.S | re.M)


def commands(page: Path) -> list[str]:
    """Each `taichi2dgs ...` of a page's blocks of shell commands, without its comment."""
    lines = "".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    found = [re.search(r"(?:^|&& |=\w+ )(taichi2dgs .*)", line) for line in lines]
    return [re.sub(r"( &&)?(\s+#.*)?$", "", match[1]) for match in found if match]


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.stem)
def test_examples_of_a_page_run_one_after_another(page, backend, tmp_path, monkeypatch):
    if backend != "cpu":
        pytest.skip("examples use nothing that other tests do not; they are run on CPU")
    pytest.importorskip("skimage", reason="needs the sample photograph")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page.stem}
    for number, block in enumerate(blocks(page, "python"), 1):
        exec(compile(block, f"{page.name}, block {number}", "exec"), names)


def test_examples_are_found():
    assert {"index", "pictures", "files", "editing", "training"} <= {
        page.stem for page in PAGES if blocks(page, "python")
    }


@pytest.mark.parametrize("page", [p for p in TEXTS if commands(p)], ids=lambda p: p.stem)
def test_commands_are_understood(page):
    for command in commands(page):
        arguments = shlex.split(command)[1:]
        cli.parser(arguments[0]).parse_args(arguments)


@pytest.mark.parametrize("page", TEXTS, ids=lambda p: p.stem)
def test_links_lead_to_files(page):
    for target in LINK.findall(page.read_text("utf-8")):
        if not target.startswith(("http://", "https://", "#")):
            assert (page.parent / target.split("#")[0]).exists(), target


@pytest.mark.parametrize("page", TEXTS, ids=lambda p: p.stem)
def test_what_is_named_exists(page):
    text = page.read_text("utf-8")
    for name in DOTTED.findall(text):
        pkgutil.resolve_name(name)
    for path in PATH.findall(text):
        assert path.startswith("../") or (ROOT / path).exists(), path
