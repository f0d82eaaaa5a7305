"""A small local server of the page."""

from __future__ import annotations

import hmac
import http.server
import secrets
import threading
import urllib.parse
from collections.abc import Callable
from typing import cast

from taichi2dgs.checks import whole
from taichi2dgs.viewing.live import Live
from taichi2dgs.viewing.page import BINARY, POLICY, folder

TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css"}
HOST = "127.0.0.1"
MOST_PORT = 65535
CLIENTS = 32  # connections that are served at once; more are turned away
PATIENCE = 5.0  # seconds that a client may take for its request
SERVED = POLICY.format(script="'self'", style="'self'", worker="'self'", connect="'self'")


class serving:  # noqa: N801 - it reads as `with serving(...) as server`
    """A server of the page and of some files, on this machine alone, in threads of its own.

    Only who knows the address gets anything: it holds a random token. What there is to get is
    listed beforehand, so no path leads out.

    Args:
        shown: contents of files by their names; see `taichi2dgs.viewing.page.contents`.
        port: to listen on; any free one if 0.
        live: a fit that the page follows, if any.

    Raises:
        ValueError: the port is none, or taken.
    """

    def __init__(self, shown: dict[str, bytes], port: int = 0, live: Live | None = None) -> None:
        self.token = secrets.token_urlsafe(24)
        self.answers: dict[str, tuple[str, Callable[[], bytes | None]]] = {}
        self.actions: dict[str, Callable[[], object]] = {}
        for path in folder().iterdir():
            if path.suffix in TYPES:
                self.answers[path.name] = TYPES[path.suffix], path.read_bytes
        self.answers[""] = self.answers["index.html"]
        for name, data in shown.items():
            self.answers["files/" + name] = BINARY, lambda data=data: data
        if live is not None:
            self.answers["live/state"] = "application/json", live.state
            self.answers["live/snapshot"] = BINARY, live.snapshot
            self.answers["live/file"] = BINARY, live.file
            self.actions["live/stop"] = live.stop
        whole(port, "port", 0, MOST_PORT)
        try:
            self.server = _Server((HOST, port), _Handler)
        except OSError as error:
            raise ValueError(f"port={port}: cannot be listened on ({error.strerror})") from error
        self.server.site = self
        parts = [("file", "files/" + quoted(name)) for name in shown]
        query = urllib.parse.urlencode(parts + ([("live", "1")] if live is not None else []))
        self.url = f"http://{HOST}:{self.server.server_port}/{self.token}/?{query}"

    def inner(self, path: str) -> str | None:
        """Return what follows the token in a path, or None if that is not the right one."""
        first, _, rest = path.removeprefix("/").partition("/")
        known = hmac.compare_digest(first.encode(), self.token.encode())
        return urllib.parse.unquote(rest) if known else None

    def answer(self, path: str) -> tuple[str, bytes] | None:
        """Return the type and the content of what is at a path, if anything is."""
        inner = self.inner(path)
        found = None if inner is None else self.answers.get(inner)
        content = found[1]() if found else None
        return None if found is None or content is None else (found[0], content)

    def act(self, path: str) -> bool:
        """Do what a path stands for, and return whether it stands for anything."""
        action = self.actions.get(self.inner(path) or "")
        if action is not None:
            action()
        return action is not None

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
        if not self._is_ours(self.headers.get("Origin")):
            return self._send(403)
        found = self._site.answer(urllib.parse.urlsplit(self.path).path)
        return self._send(404) if found is None else self._send(200, *found)

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        """Only a page of this server may have something done; a body is not read."""
        self.close_connection = True
        if not self._site.actions:
            return self._send(501)
        if self.headers.get("Origin") is None or not self._is_ours(self.headers["Origin"]):
            return self._send(403)
        done = self._site.act(urllib.parse.urlsplit(self.path).path)
        return self._send(204 if done else 404)

    @property
    def _site(self) -> serving:
        return cast(_Server, self.server).site

    def _is_ours(self, origin: str | None) -> bool:
        """Whether a request has this server's own name, and comes from no other page."""
        port = cast(_Server, self.server).server_port
        hosts = [f"{name}:{port}" for name in (HOST, "localhost")]
        ours = origin is None or origin in [f"http://{host}" for host in hosts]
        return ours and self.headers.get("Host") in hosts  # another name may lead here, too

    def _send(self, status: int, kind: str = "text/plain", data: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind), ("Content-Length", str(len(data))),
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", SERVED), ("X-Content-Type-Options", "nosniff"),
            ("Cross-Origin-Resource-Policy", "same-origin"), ("Referrer-Policy", "no-referrer"),
            ("X-Frame-Options", "DENY"),
        ):  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """The terminal shows the address, not each request."""
