"""`taichi2dgs view`: its server and hostile clients, the file that it writes, bad arguments."""

import base64
import contextlib
import http.client
import json
import socket
import threading
import time

import numpy as np
import pytest
from conftest import scatter

import taichi2dgs
from pipelines import cli, watching
from pipelines.commands import view
from pipelines.encoding import Encoding
from taichi2dgs import write_image
from taichi2dgs.fitting.options import Report
from taichi2dgs.storage import t2d
from taichi2dgs.viewing import live as live_module
from taichi2dgs.viewing import server as viewing
from taichi2dgs.viewing.live import SHARE, Live


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
            assert ask(server, own + "live/stop", method=method) == 501
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
        ([str(tmp_path / "no.t2d")], "no such file"), ([str(tmp_path / "no.png")], "no such file"),
        ([path, "--html", "out.txt"], "ends in .html"), ([path, "--port", "70000"], "port=70000"),
        ([path, "--live"], "expected a picture to fit"),
        ([str(tmp_path / "other.png")] * 2, "a second picture"),
        ([str(tmp_path / "other.png"), "--live", "--html", "a.html"], "expected one of them"),
    ):  # fmt: skip
        assert cli.main(["view", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_only_the_servers_own_page_ends_a_fit():
    live = Live("photo")
    with viewing.serving({}, live=live) as server:
        stop, port = f"/{server.token}/live/stop", server.server.server_port
        own = {"Origin": f"http://127.0.0.1:{port}"}
        assert ask(server, stop, method="POST") == 403
        assert ask(server, stop, {"Origin": "http://evil.example"}, "POST") == 403
        assert ask(server, stop, {"Host": f"evil.example:{port}", **own}, "POST") == 403
        assert ask(server, "/live/stop", own, "POST") == 404
        assert ask(server, f"/{server.token}/page.js", own, "POST") == 404
        assert ask(server, stop) == 404 and not live.stopping
        assert ask(server, stop, own, "POST") == 204 and live.stopping


def report(step: int, seconds: float, psnr: float = 20.0, wait=lambda: None) -> Report:
    """A report of 50 Gaussians which are read after a wait."""

    def read():
        wait()
        return scatter(50, (20, 30), seed=step)

    return Report(step, seconds, psnr, read)


def test_a_page_gets_the_curve_and_the_gaussians_of_a_fit():
    live = Live("photo", steps=90)
    assert live.snapshot() is None
    live.report(50, report(0, 0.0, 21.0))
    live.snapshot()
    live.report(50, report(10, 60.0, float("inf")))
    state = json.loads(live.state())
    assert state["curve"] == [[0, 21], [60, 999]] and state["psnr"] == 999
    assert (state["k"], state["step"], state["phase"], state["steps"]) == (50, 10, "fitting", 90)
    assert state["picture"]["height"] == 20 and state["picture"]["settings"]["topK"] == 10
    columns = np.frombuffer(live.snapshot(), "<f4").reshape(8, 50)
    assert np.array_equal(columns.T, scatter(50, (20, 30), seed=10).packed().numpy())
    assert live.file() is None
    live.finish("done", b"content")
    assert live.file() == b"content" and json.loads(live.state())["phase"] == "done"


def test_snapshots_take_a_twentieth_of_the_fits_time_at_most(monkeypatch, watch):
    """Each takes 10 ms; a second of reports has room for five, although pages ask for all."""
    monkeypatch.setattr(watch, "monotonic", watch.perf_counter, raising=False)
    monkeypatch.setattr(live_module, "time", watch)
    live = Live("photo")
    for step in range(101):
        live.report(50, report(step, step / 100, wait=lambda: watch.sleep(0.01)))
        live.snapshot()
    taken = json.loads(live.state())["number"]
    assert taken == 5 and live.spent == pytest.approx(SHARE * 1.0)


def test_nothing_is_read_for_a_page_that_has_not_taken_the_last_snapshot():
    live = Live("photo")
    for step in range(20):
        live.report(50, report(step, float(step)))
    assert json.loads(live.state())["number"] == 1


def test_a_long_curve_is_thinned_and_keeps_its_ends():
    live = Live("photo")
    for step in range(5_000):
        live.report(50, report(step, float(step), psnr=step / 100))
    curve = json.loads(live.state())["curve"]
    assert 100 < len(curve) <= 401 and curve[0] == [0, 0] and curve[-1] == [4999, 49.99]
    assert sorted(curve) == curve


@pytest.fixture
def stopper(monkeypatch):
    """Has a page ask for the end of whichever fit is shown live, once it has begun."""
    shown = []

    def serve(*arguments, **more):
        server = viewing.serving(*arguments, **more)
        shown.append((server, arguments[2]))
        threading.Thread(target=ask_for_the_end, args=shown[-1], daemon=True).start()
        return server

    def ask_for_the_end(server, live) -> None:
        while not live.known["step"]:
            time.sleep(0.01)
        own = f"http://127.0.0.1:{server.server.server_port}"
        ask(server, f"/{server.token}/live/stop", {"Origin": own}, "POST")

    monkeypatch.setattr(watching, "serving", serve)
    return shown


COMMAND = ["-k", "60", "--seconds", "60", "--start", "random", "--live", "--no-browser", "-q"]


def test_a_fit_that_the_page_ends_is_saved(tmp_path, photograph, stopper, capsys):
    write_image(tmp_path / "a.png", photograph[:24, :30])
    out = tmp_path / "a.t2d"
    assert cli.main(["encode", str(tmp_path / "a.png"), "-o", str(out), *COMMAND]) == 0
    said = capsys.readouterr()
    assert "stopped; what was there is saved" in said.err and "60 Gaussians" in said.out
    (_, live), step = stopper[0], stopper[0][1].known["step"]
    assert live.known["phase"] == "stopped" and step > 0
    assert live.file() == out.read_bytes() and f" {step} iterations" in said.out


def test_a_picture_is_viewed_while_it_is_fitted(tmp_path, photograph, stopper, capsys, monkeypatch):
    monkeypatch.setattr(view, "_until_ctrl_c", lambda: None)
    write_image(tmp_path / "a.png", photograph[:24, :30])
    assert cli.main(["view", str(tmp_path / "a.png"), *COMMAND]) == 0
    address, numbers = capsys.readouterr().out.splitlines()[:2]
    assert address.endswith("/?file=files%2Fa.png&live=1") and "60 Gaussians" in numbers
    live = stopper[0][1]
    assert len(t2d.decode(live.file()).gaussians) == 60 and live.known["phase"] == "stopped"


def test_a_fit_that_fails_says_so_on_the_page(tmp_path, photograph, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(
        Encoding, "run", lambda *_: (_ for _ in ()).throw(MemoryError("too many Gaussians"))
    )
    monkeypatch.setattr(watching, "Live", lambda *given: seen.append(Live(*given)) or seen[0])
    write_image(tmp_path / "a.png", photograph[:24, :30])
    assert cli.main(["view", str(tmp_path / "a.png"), *COMMAND]) == 2
    assert "too many Gaussians" in capsys.readouterr().err
    state = json.loads(seen[0].state())
    assert state["phase"] == "failed" and state["message"] == "too many Gaussians"


def test_a_photograph_alone_becomes_a_page(tmp_path, photograph, capsys):
    write_image(tmp_path / "a.png", photograph[:24, :30])
    command = [str(tmp_path / "a.png"), "-k", "60", "--steps", "3", "--start", "random", "-q"]
    assert cli.main(["view", *command, "--html", str(tmp_path / "a.html")]) == 0
    whole = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert 'data-name="a.t2d"' in whole and 'data-name="a.png"' in whole


def test_what_is_viewed_is_the_file_that_encode_writes(tmp_path, photograph, monkeypatch):
    monkeypatch.setattr(view, "_until_ctrl_c", lambda: None)
    write_image(tmp_path / "a.png", photograph[:24, :30])
    given = [str(tmp_path / "a.png"), "--target-bytes", "1500", "--quality", "small", "-q"]
    given += ["--progressive", "--steps", "3", "--start", "random", "--refine", "2"]
    assert cli.main(["encode", *given, "-o", str(tmp_path / "a.t2d")]) == 0
    written = (tmp_path / "a.t2d").read_bytes()
    assert t2d.decode(written).progressive and len(written) <= 1500
    assert cli.main(["view", *given, "--html", str(tmp_path / "a.html")]) == 0
    assert base64.b64encode(written).decode() in (tmp_path / "a.html").read_text(encoding="utf-8")
    seen = []
    monkeypatch.setattr(watching, "Live", lambda *given: seen.append(Live(*given)) or seen[0])
    assert cli.main(["view", *given, "--live", "--no-browser"]) == 0
    assert seen[0].file() == written


def test_reports_come_often_enough_to_look_on():
    encoding = watching.watched(Encoding(steps=1000))
    assert encoding.options.report_every == watching.REPORT_EVERY and encoding.steps == 1000
    own = Encoding(steps=9, options=taichi2dgs.FitOptions(report_every=3))
    assert watching.watched(own).options.report_every == 3
