"""The page that shows Gaussians in a browser, and what it is given to show."""

from __future__ import annotations

import base64
import contextlib
import html
import io
import re
from pathlib import Path

from torch import Tensor

from taichi2dgs.storage import paths, pictures, t2d

START, WORKER = "page.js", "worker.js"
BINARY = "application/octet-stream"
IMPORT = re.compile(r'^import \{([^}]+)\} from "\./([\w.]+)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) ([\w$]+))", re.MULTILINE)
# What the page may do: nothing but show what came with it.
POLICY = (
    "default-src 'none'; img-src data: blob:; base-uri 'none'; form-action 'none'; "
    "script-src {script}; style-src {style}; worker-src {worker}; connect-src {connect}"
)
ALONE = POLICY.format(
    script="'unsafe-inline'", style="'unsafe-inline'", worker="blob:", connect="'none'"
)


def is_gaussians(name: str) -> bool:
    """Whether a file holds Gaussians, by its name or its first bytes; the standard input does."""
    if name == "-" or Path(name).suffix.lower() == ".t2d":
        return True
    with contextlib.suppress(OSError, ValueError), open(name, "rb") as stream:
        return stream.read(len(t2d.MAGIC)) == t2d.MAGIC
    return False


def contents(names: list[str]) -> dict[str, bytes]:
    """Return what is shown: .t2d files as they are, pictures as the library reads them, as PNG.

    Args:
        names: of the files, Gaussians first; at most two.

    Raises:
        ValueError: a file cannot be read, or they are not of one size; the message names it.
    """
    found: dict[str, bytes] = {}
    sizes = []
    for name in names:
        if is_gaussians(name) or not found:
            data = paths.contents(name, t2d.MAX_BYTES)
            try:
                sizes.append(t2d.decode(data).gaussians.size)
            except ValueError as error:
                raise ValueError(f"{name}: not a file of Gaussians ({error})") from error
            shown = "stdin.t2d" if name == "-" else Path(name).name
        else:
            image = pictures.read_image(name)
            sizes.append(tuple(image.shape[:2]))
            data, shown = picture(image, name), f"{stem(name)}.png"
        found[f"2-{shown}" if shown in found else shown] = data
    if len(set(sizes)) > 1:
        (height, width), (other_height, other_width) = sizes
        raise ValueError(
            f"{names[1]}: {other_height}x{other_width}; expected {height}x{width}, as {names[0]} is"
        )
    return found


def stem(name: str) -> str:
    """Return the name of a picture without its folder and its ending."""
    return Path(name.removeprefix("sample:")).stem


def picture(image: Tensor, name: str) -> bytes:
    """Return an image as a PNG file that a browser shows. [H, W, C]

    Raises:
        ValueError: it has more than 4 channels; the message has the name.
    """
    if image.shape[2] > 4:
        raise ValueError(f"{name}: {image.shape[2]} channels; a browser shows 4 at most")
    whole, how = pictures.encoded(image, "PNG")
    buffer = io.BytesIO()
    whole.save(buffer, "PNG", **how)
    return buffer.getvalue()


def folder() -> Path:
    """Return where the page's files are: in this package, or, in a checkout, beside it."""
    places = [above / "viewer" for above in Path(__file__).parents]
    return next(place for place in places if (place / "index.html").is_file())


def standalone(shown: dict[str, bytes]) -> str:
    """Return the page with all that it needs, and files to show, as one file of HTML.

    Args:
        shown: contents of files by their names; see `contents`.
    """
    whole = (folder() / "index.html").read_text(encoding="utf-8")
    style = (folder() / "style.css").read_text(encoding="utf-8")
    inside = "".join(
        f'<script type="{BINARY}" data-name="{html.escape(name)}">'
        f"{base64.b64encode(data).decode()}</script>\n"
        for name, data in shown.items()
    )
    worker = f'<script type="text/plain" id="worker-source">{bundle(WORKER)}</script>\n'
    script = f'<script type="module">{bundle(START)}</script>\n'
    policy = f'<meta http-equiv="Content-Security-Policy" content="{ALONE}">'
    for old, new in (
        ('<meta charset="utf-8">', f'<meta charset="utf-8">\n{policy}'),
        ('<link rel="stylesheet" href="style.css">', f"<style>\n{style}</style>"),
        (f'<script type="module" src="{START}"></script>\n', inside + worker + script),
    ):
        assert whole.count(old) == 1, old
        whole = whole.replace(old, new)
    return whole


def bundle(name: str) -> str:
    """Return a module and all that it imports as one script, each as a function with its names.

    The modules keep to one form: `import { a, b } from "./c.js";` on lines of their own, and
    `export` before functions, classes and constants.
    """
    parts: dict[str, str] = {}

    def variable(module: str) -> str:
        return "module_" + module.removesuffix(".js")

    def add(module: str) -> None:
        source = (folder() / module).read_text(encoding="utf-8")
        for needed in IMPORT.findall(source):
            if needed[1] not in parts:
                add(needed[1])
        exported = ", ".join(EXPORT.findall(source))
        body = IMPORT.sub(lambda found: f"const {{{found[1]}}} = {variable(found[2])};\n", source)
        body = EXPORT.sub("", body).replace("</script", r"<\/script")
        parts[module] = (
            f"const {variable(module)} = (() => {{\n{body}return {{ {exported} }};\n}})();\n"
        )

    add(name)
    return "".join(parts.values())
