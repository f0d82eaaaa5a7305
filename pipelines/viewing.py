"""Looking at Gaussians in a browser: a small local server of the page, or one file that is it."""

from __future__ import annotations

import base64
import hmac
import html
import http.server
import io
import re
import secrets
import threading
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import cast

from taichi2dgs.storage import paths, pictures, t2d

START, WORKER = "page.js", "worker.js"
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css"}
BINARY = "application/octet-stream"
HOST = "127.0.0.1"
CLIENTS = 32  # connections that are served at once; more are turned away
PATIENCE = 5.0  # seconds that a client may take for its request
IMPORT = re.compile(r'^import \{([^}]+)\} from "\./([\w.]+)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) ([\w$]+))", re.MULTILINE)
# What the page may do: nothing but show what came with it.
POLICY = (
    "default-src 'none'; img-src data: blob:; base-uri 'none'; form-action 'none'; "
    "script-src {script}; style-src {style}; worker-src {worker}; connect-src {connect}"
)
SERVED = POLICY.format(script="'self'", style="'self'", worker="'self'", connect="'self'")
ALONE = POLICY.format(
    script="'unsafe-inline'", style="'unsafe-inline'", worker="blob:", connect="'none'"
)


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
        if not found or Path(name).suffix.lower() == ".t2d":
            data = paths.contents(name, t2d.MAX_BYTES)
            try:
                sizes.append(t2d.decode(data).gaussians.size)
            except ValueError as error:
                raise ValueError(f"{name}: not a file of Gaussians ({error})") from error
            shown = "stdin.t2d" if name == "-" else Path(name).name
        else:
            image = pictures.read_image(name)
            if image.shape[2] > 4:
                raise ValueError(f"{name}: {image.shape[2]} channels; a browser shows 4 at most")
            sizes.append(tuple(image.shape[:2]))
            picture, how = pictures.encoded(image, "PNG")
            buffer = io.BytesIO()
            picture.save(buffer, "PNG", **how)
            data, shown = buffer.getvalue(), Path(name.removeprefix("sample:")).stem + ".png"
        found[f"2-{shown}" if shown in found else shown] = data
    if len(set(sizes)) > 1:
        (height, width), (other_height, other_width) = sizes
        raise ValueError(
            f"{names[1]}: {other_height}x{other_width}; expected {height}x{width}, as {names[0]} is"
        )
    return found


def folder() -> Path:
    """Return where the page's files are: in this package, or, in a checkout, beside it."""
    places = [above / "viewer" for above in Path(__file__).parents]
    return next(place for place in places if (place / "index.html").is_file())


def standalone(shown: dict[str, bytes]) -> str:
    """Return the page with all that it needs, and files to show, as one file of HTML.

    Args:
        shown: contents of files by their names; see `contents`.
    """
    page = (folder() / "index.html").read_text(encoding="utf-8")
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
        assert page.count(old) == 1, old
        page = page.replace(old, new)
    return page


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


class serving:  # noqa: N801 - it reads as `with serving(...) as server`
    """A server of the page and of some files, on this machine alone, in threads of its own.

    Only who knows the address gets anything: it holds a random token. What there is to get is
    listed beforehand, so no path leads out.

    Args:
        shown: contents of files by their names; see `contents`.
        port: to listen on; any free one if 0.
    """

    def __init__(self, shown: dict[str, bytes], port: int = 0) -> None:
        self.token = secrets.token_urlsafe(24)
        self.answers: dict[str, tuple[str, Callable[[], bytes]]] = {}
        for path in folder().iterdir():
            if path.suffix in TYPES:
                self.answers[path.name] = TYPES[path.suffix], path.read_bytes
        self.answers[""] = self.answers["index.html"]
        for name, data in shown.items():
            self.answers["files/" + name] = BINARY, lambda data=data: data
        try:
            self.server = _Server((HOST, port), _Handler)
        except OSError as error:
            raise ValueError(f"port={port}: cannot be listened on ({error.strerror})") from error
        self.server.site = self
        query = urllib.parse.urlencode([("file", "files/" + quoted(name)) for name in shown])
        self.url = f"http://{HOST}:{self.server.server_port}/{self.token}/?{query}"

    def answer(self, path: str) -> tuple[str, bytes] | None:
        """Return the type and the content of what is at a path, if anything is."""
        first, _, rest = path.removeprefix("/").partition("/")
        if not hmac.compare_digest(first.encode(), self.token.encode()):
            return None
        found = self.answers.get(urllib.parse.unquote(rest))
        return (found[0], found[1]()) if found else None

    def __enter__(self) -> serving:
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def quoted(name: str) -> str:
    """Return a file's name as a part of an address."""
    return urllib.parse.quote(name, safe="")


class _Server(http.server.ThreadingHTTPServer):
    """Serves so many clients at once, and turns others away."""

    daemon_threads = True
    request_queue_size = 128
    site: serving

    def __init__(self, *given) -> None:
        self.room = threading.BoundedSemaphore(CLIENTS)
        super().__init__(*given)

    def process_request(self, request, client_address) -> None:
        if self.room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request, client_address) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.room.release()

    def handle_error(self, request, client_address) -> None:
        """A client that goes away is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = PATIENCE  # of a connection
    server_version, sys_version = "taichi2dgs", ""

    def do_GET(self) -> None:
        server = cast(_Server, self.server)
        hosts = [f"{name}:{server.server_port}" for name in (HOST, "localhost")]
        origin = self.headers.get("Origin")
        if self.headers.get("Host") not in hosts:  # another name that leads here
            return self._send(403)
        if origin is not None and origin not in [f"http://{host}" for host in hosts]:
            return self._send(403)
        found = server.site.answer(urllib.parse.urlsplit(self.path).path)
        return self._send(404) if found is None else self._send(200, *found)

    do_HEAD = do_GET  # noqa: N815

    def _send(self, status: int, kind: str = "text/plain", data: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(data))),
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", SERVED),
            ("X-Content-Type-Options", "nosniff"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Frame-Options", "DENY"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """The terminal shows the address, not each request."""
