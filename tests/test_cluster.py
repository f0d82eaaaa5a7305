"""A Ray cluster of two workers, one of which is killed, and an S3 server: nothing is lost."""

import contextlib
import math
import os
import select
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from conftest import environment

from pipelines import cli, cluster, places, plan
from pipelines.encoding import Encoding
from pipelines.folder import RECORD, encode_folder
from taichi2dgs.storage import files
from taichi2dgs.storage.paths import WriteError

ray = pytest.importorskip("ray", reason="needs the extra 'cluster'")
psutil = pytest.importorskip("psutil", reason="needs psutil, by which workers are found")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
OPTIONS = ["-k", "40", "--steps", "60", "--start", "random", "--backend", "cpu"]
ENCODING = Encoding(k=40, steps=60, start="random")
COUNT = 24
BEGINS = 120  # seconds in which Ray starts, or does not at all


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of small pictures, one of them broken, and the files that one process makes."""
    above = tmp_path_factory.mktemp("cluster")
    (above / "in").mkdir()
    generator = torch.Generator().manual_seed(0)
    for n in range(COUNT):
        image = torch.rand(24, 24 + n % 3, 3, generator=generator)
        files.write_image(above / "in" / f"{n:02}.png", image)
    (above / "in" / "broken.png").write_bytes(b"\x89PNG but no more")
    assert encode_folder(above / "in", above / "one", ENCODING, quiet=True) == 1
    return SimpleNamespace(folder=above / "in", expected=contents(above / "one"))


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.t2d"))}


@pytest.fixture(scope="module")
def head():
    """The address of a cluster of two workers on this machine, and the process that it is under."""
    variables = environment() | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        script = (
            "import ray, time; ray.init(num_cpus=2, include_dashboard=False, "
            "object_store_memory=80 << 20, logging_level='critical'); "
            "print(ray.get_runtime_context().gcs_address, flush=True); time.sleep(600)"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=variables
        )
        assert process.stdout is not None
        answers, _, _ = select.select([process.stdout], [], [], BEGINS)
        address = process.stdout.readline().strip() if answers else ""
        if not address:
            process.kill()
            pytest.skip(f"Ray starts no cluster on this machine in {BEGINS} s")
        yield SimpleNamespace(address=address, process=process)
        process.terminate()
        process.wait(30)


def started(head, source, out, *more) -> subprocess.Popen:
    command = [sys.executable, "-m", "pipelines.cli", "encode", source, "--out", out, *OPTIONS]
    return subprocess.Popen(
        [*map(str, command), "--ray", head.address, *more], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip


def workers(head) -> list:
    """The processes that encode."""
    below = psutil.Process(head.process.pid).children(recursive=True)
    found = []
    for process in below:
        with contextlib.suppress(psutil.Error):
            if process.name().startswith("ray::work"):
                found.append(process)
    return found


def wait_for(count: int, out, process) -> None:
    while len(list(out.glob("[!.]*.t2d"))) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_a_worker_that_is_killed_loses_no_picture_and_none_is_done_twice(head, pictures, tmp_path):
    out = tmp_path / "out"
    process = started(head, pictures.folder, out)
    wait_for(3, out, process)
    early = {path: path.stat().st_mtime_ns for path in out.glob("[!.]*.t2d")}
    victim = workers(head)[0]
    victim.send_signal(signal.SIGKILL)
    said, err = process.communicate(timeout=100)
    assert process.returncode == 1, err
    assert f"{out}: {COUNT} encoded, 0 were there, 1 failed" in said
    assert err.count("skipped") == 1 and "broken.png: not a readable picture" in err
    assert contents(out) == pictures.expected and len(pictures.expected) == COUNT
    assert all(path.stat().st_mtime_ns == before for path, before in early.items())
    again = started(head, pictures.folder, out, "-q")
    said, _ = again.communicate(timeout=60)
    assert f"{out}: 0 encoded, {COUNT} were there, 1 failed" in said


def test_ctrl_c_ends_a_run_on_a_cluster_with_what_is_finished(head, pictures, tmp_path):
    out = tmp_path / "out"
    process = started(head, pictures.folder, out, "--steps", "400")
    wait_for(2, out, process)
    process.send_signal(signal.SIGINT)
    said, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "encoded, 0 were there" in said, err
    assert "Traceback" not in err
    names = [path.name for path in out.iterdir()]
    assert 2 <= len(names) - 1 < COUNT
    time.sleep(2)
    assert names == [path.name for path in out.iterdir()]  # nor does any worker go on
    assert all(name == RECORD or not name.startswith(".") for name in names)  # nothing unfinished


@pytest.fixture
def bucket(monkeypatch):
    """A bucket on an S3 server of this machine, by its URL, and the server."""
    moto = pytest.importorskip("moto.server", reason="needs the extra 'servers'")
    s3fs = pytest.importorskip("s3fs", reason="needs the extra 'servers'")
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    places._opened.cache_clear()
    places._probe.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()
    with contextlib.suppress(FileExistsError):  # moto keeps what a server had
        s3fs.S3FileSystem().mkdir("pictures")
    yield SimpleNamespace(url="s3://pictures", server=server, system=s3fs.S3FileSystem())
    with contextlib.suppress(Exception):
        server.stop()
    places._opened.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_bucket_gives_pictures_and_takes_files(bucket, pictures):
    for path in sorted(pictures.folder.iterdir())[:5]:
        bucket.system.put_file(str(path), f"pictures/in/{path.name}")
    source, out = f"{bucket.url}/in", f"{bucket.url}/out"
    assert encode_folder(source, out, ENCODING, quiet=True) == 0
    place = places.place_of(out)
    names = sorted(name for name, _ in place.walk())
    assert names == [RECORD, *list(pictures.expected)[:5]]
    assert all(place.read(name) == pictures.expected[name] for name in names[1:])
    bucket.system.rm_file("pictures/out/03.t2d")
    assert encode_folder(source, out, ENCODING, quiet=True) == 0  # goes on
    assert place.read("03.t2d") == pictures.expected["03.t2d"]


def test_a_bucket_that_is_not_there_or_not_reached_is_one_line(bucket, pictures, capsys):
    command = ["encode", str(pictures.folder), "--out", "s3://nobody/out", "-q", *OPTIONS]
    assert cli.main(command) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "taichi2dgs: error: s3://nobody/out" in lines[0]
    bucket.server.stop()
    places._opened.cache_clear()
    assert cli.main(["encode", bucket.url, "--out", "none", *OPTIONS]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "error: s3://pictures: cannot be read (" in lines[0]


def test_tasks_are_tried_alone_where_workers_die_of_one(pictures, tmp_path, monkeypatch):
    """Workers that die of one picture take neither the others of its task nor the run with them."""
    sent: list[list[str]] = []
    out = places.place_of(tmp_path)
    todo = {one: f"{one.name}.t2d" for one in plan.find(pictures.folder).pictures[:9]}

    class DeadError(Exception):
        pass

    def answer(task):
        names = [one.name for one in task.targets]
        sent.append(names)
        if "04.png" in names:
            return DeadError()
        return cluster.Answer([(name, 30.0) for name in names])

    made = object.__new__(cluster.Cluster)
    made.ray = SimpleNamespace(
        cluster_resources=lambda: {"CPU": 1.0},
        wait=lambda refs, **_: (refs[:1], refs[1:]), get=_raised,
        exceptions=SimpleNamespace(
            LocalRayletDiedError=(), RayTaskError=(), RaySystemError=(), RayError=DeadError
        ),
    )  # fmt: skip
    made.work = SimpleNamespace(remote=lambda task: _Ref(answer(task)))
    made.stop = SimpleNamespace(remote=lambda: _Ref(None))
    made.backend, made.cores, made.on_gpu, made.head = None, 1, False, ("127.0.0.1", 9)
    made.heard, made.slots = math.inf, 1
    monkeypatch.setattr(cluster, "_answers", lambda *head: True)
    made._groups = lambda pictures, encoding: iter([pictures[:3], pictures[3:6], pictures[6:]])
    outcomes = {one.name: result for one, result in made(todo, out, ENCODING)}
    assert sorted(outcomes) == sorted(one.name for one in todo)
    failed = {name for name, result in outcomes.items() if isinstance(result, Exception)}
    assert failed == {"04.png"} and "workers died of it" in str(outcomes["04.png"])
    assert sorted(names for names in sent if len(names) == 1) == [
        ["03.png"],
        ["04.png"],
        ["05.png"],
    ]
    full = cluster.Answer([], ("WriteError", "a.t2d: cannot be written (No space left on device)"))
    made.work = SimpleNamespace(remote=lambda task: _Ref(full))
    with pytest.raises(WriteError, match="No space left"):
        list(made(todo, out, ENCODING))
    monkeypatch.setattr(cluster, "_answers", lambda *head: False)
    made.heard = -math.inf
    with pytest.raises(cluster.ClusterError, match="is dead; what is finished is kept"):
        list(made(todo, out, ENCODING))


class _Ref:
    def __init__(self, answer):
        self.answer = answer


def _raised(ref):
    if isinstance(ref.answer, Exception):
        raise ref.answer
    return ref.answer


def test_no_more_tasks_are_in_flight_than_twice_those_that_run(pictures, tmp_path, monkeypatch):
    flying: list[int] = []
    stopped: list[object] = []
    made = object.__new__(cluster.Cluster)
    made.ray = SimpleNamespace(
        cluster_resources=lambda: {"CPU": 5.0}, get=_raised,
        wait=lambda refs, **_: stopped.extend(refs),
        exceptions=SimpleNamespace(RayError=RuntimeError),
    )  # fmt: skip
    made.stop = SimpleNamespace(remote=object)
    made.backend, made.cores, made.on_gpu, made.head = None, 2, False, ("127.0.0.1", 9)
    made.slots = made._slots()
    made.work = SimpleNamespace(
        remote=lambda task: _Ref(cluster.Answer([(one.name, 1.0) for one in task.targets]))
    )
    monkeypatch.setattr(made, "_done", lambda refs: flying.append(len(refs)) or refs[:1])
    found = plan.find(pictures.folder).pictures
    done = list(made({one: one.name for one in found}, places.place_of(tmp_path), ENCODING))
    assert len(done) == len(found) and max(flying) == cluster.AHEAD * 2 < len(flying)
    assert len(stopped) == 2  # each worker keeps what it has compiled


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--ray", "127.0.0.1:9"], "127.0.0.1:9: no Ray cluster answers there"),
        (["--ray", "nowhere"], "--ray nowhere: expected local, auto or HOST:PORT"),
        (["--ray", "local", "--shard", "1/2"], "--shard: --ray shares pictures out by itself"),
        (["--cores", "2"], "--cores: --ray is not given"),
    ],
)
def test_addresses_and_options_that_cannot_be_are_one_line(pictures, tmp_path, capsys, more, said):
    command = ["encode", str(pictures.folder), "--out", str(tmp_path / "out"), *OPTIONS, *more]
    assert cli.main(command) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"taichi2dgs: error: {said}") and err.count("\n") == 1


def test_what_one_process_has_for_itself_is_refused():
    with pytest.raises(ValueError, match="memory://a: is in this process alone"):
        cluster._anywhere(places.place_of("memory://a"))


def test_a_cluster_that_dies_ends_the_run_with_one_line_and_keeps_files(head, pictures, tmp_path):
    """The last test of the cluster, which it ends."""
    out = tmp_path / "out"
    process = started(head, pictures.folder, out, "--steps", "2000", "-q")
    wait_for(1, out, process)
    for one in psutil.Process(head.process.pid).children(recursive=True):
        if one.name() in ("gcs_server", "raylet"):
            os.kill(one.pid, signal.SIGKILL)
    _, err = process.communicate(timeout=50)
    assert process.returncode == 2
    line = err.splitlines()[-1]
    assert line.startswith("taichi2dgs: error: the cluster") and line.endswith("goes on from there")
    made = contents(out)
    assert made and all(name in pictures.expected for name in made)
