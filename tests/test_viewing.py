"""`taichi2dgs view`: its server and hostile clients, the file that it writes, bad arguments."""

import contextlib
import http.client
import socket
import time

from conftest import scatter

from pipelines import cli, viewing
from taichi2dgs import write_image


def ask(server, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> int:
    """The status of an answer of a server."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server.server_port, timeout=10)
    connection.request(method, path, headers=headers or {})
    status = connection.getresponse().status
    connection.close()
    return status


def test_the_server_gives_nothing_to_who_does_not_know_its_address():
    with viewing.serving({"g.t2d": b"content"}) as server:
        own = f"/{server.token}/"
        port = server.server.server_port
        for path in ("", "files/g.t2d", "page.js"):
            assert ask(server, own + path) == 200
        for path in ("/", "/page.js", f"/{server.token[:-1]}/", "/%ff/", "/" + "x" * 9_000):
            assert ask(server, path) == 404
        for path in (
            "../cli.py",
            "..%2fcli.py",
            "%2e%2e/cli.py",
            "/etc/passwd",
            "files/",
            "files/../g.t2d",
            "files/g.t2d%00",
            "package.json",
        ):
            assert ask(server, own + path) == 404
        assert ask(server, own, {"Host": f"evil.example:{port}"}) == 403
        assert ask(server, own, {"Origin": "http://evil.example"}) == 403
        assert ask(server, own, {"Origin": f"http://127.0.0.1:{port}"}) == 200
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "NONSENSE"):
            assert ask(server, own, method=method) == 501
        assert server.server.server_address[0] == "127.0.0.1"


def test_the_server_outlives_a_thousand_connections(monkeypatch):
    monkeypatch.setattr(viewing._Handler, "timeout", 0.5)
    with viewing.serving({"g.t2d": b"content"}) as server:
        address, held = server.server.server_address, []
        for number in range(1000):
            client = socket.socket()
            client.settimeout(5)
            with contextlib.suppress(OSError):  # the server closed it
                client.connect(address)
                client.sendall(b"GET /" + b"x" * (number % 50))  # the request never ends
            held.append(client)
            if len(held) > 100:
                held.pop(0).close()
        for client in held:
            client.close()
        give_up, status = time.monotonic() + 10, 0
        while status != 200 and time.monotonic() < give_up:
            with contextlib.suppress(OSError, http.client.HTTPException):
                status = ask(server, f"/{server.token}/files/g.t2d")
        assert status == 200


def test_the_command_writes_a_page_and_names_what_is_wrong(tmp_path, capsys):
    g = scatter(50, (96, 128))
    g.save(tmp_path / "g.t2d")
    write_image(tmp_path / "other.png", g.render()[:40])
    path = str(tmp_path / "g.t2d")
    assert cli.main(["view", path, "--html", str(tmp_path / "out.html")]) == 0
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert "Content-Security-Policy" in page and "http://127" not in page
    for arguments, message in (
        ([path, str(tmp_path / "other.png")], "40x128; expected 96x128"),
        ([str(tmp_path / "no.t2d")], "no such file"),
        ([str(tmp_path / "other.png")], "not a file"),
        ([path, "--html", "out.txt"], "ends in .html"),
        ([path, "--port", "70000"], "port=70000"),
    ):
        assert cli.main(["view", *arguments]) == 2
        assert message in capsys.readouterr().err
