"""What MkDocs does with links from a page to files of the repository outside docs/.

Pages link to them as they lie, `../benchmarks/results/...`, so that the links work on GitHub, too.
On the site a picture is copied, and any other file is a link to the repository.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PICTURES = "benchmarks/results"
OUTSIDE = re.compile(r"\]\(\.\./([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the figures of the benchmarks to the site."""
    for path in sorted((ROOT / PICTURES).rglob("*.webp")):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files outside docs/ into links that the site can follow.

    Raises:
        ValueError: there is no such file; the message names the page.
    """

    def followed(match: re.Match[str]) -> str:
        target = match[1]
        if not (ROOT / target.split("#")[0]).exists():
            raise ValueError(f"{page.file.src_uri}: no file {target} in the repository")
        if files.get_file_from_path(target):
            return f"]({target})"
        return f"]({config.repo_url}/blob/main/{target})"

    return OUTSIDE.sub(followed, markdown)
