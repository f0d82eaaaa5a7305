"""Threads, forks, scripts that start Taichi anew, and missing folders. Each case is a process."""

import os
import sys

import pytest
from test_runtime import run

GAUSSIAN = """
import gc, os, sys, threading, torch, taichi2dgs as t
from taichi2dgs import runtime
def gaussian(color):
    settings = t.RenderSettings(top_k=1, blend="sum")  # compiles soonest
    return t.Gaussians(
        torch.ones(1, 2), torch.zeros(1, 2), torch.zeros(1), color, (2, 2), settings
    )
def leaf(): return torch.ones(1, 1, requires_grad=True)
def gradient():
    color = leaf()
    gaussian(color).render().sum().backward()
    return round(float(color.grad), 3)
"""
here = os.environ.get("TAICHI2DGS_BACKEND", "cpu")


def outcome(script: str, **variables: str) -> tuple[int, str]:
    """The exit code and the last line of a script that has the helpers above."""
    done = run(GAUSSIAN + script, **({"TAICHI2DGS_BACKEND": here} | variables))
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return done.returncode, lines[-1] if lines else ""


def test_a_second_thread_renders_and_fits_like_the_first():
    """On CUDA, Taichi allocates arrays before a launch binds its context to the thread."""
    code, line = outcome("""
t.init()
found = []
def work():
    result = t.fit(torch.ones(2, 2, 1), gaussian(torch.zeros(1, 1)), steps=3)
    found.append((gradient(), result.history[-1].psnr))
for _ in range(2):
    thread = threading.Thread(target=work); thread.start(); thread.join()
work()
print(len(found), len(set(found)))
""")
    assert (code, line) == (0, "3 1")


def test_a_second_thread_may_drop_arrays():
    """On CUDA, a free without a bound context ends the process."""
    code, line = outcome("""
t.init()
with runtime.launching():
    vectors = runtime.ti.types.vector(3, runtime.ti.f32)
    held = [runtime.array(vectors, (1000,)), runtime.array("f32", (1000,))]
def drop(): held.clear(); gc.collect()
thread = threading.Thread(target=drop); thread.start(); thread.join()
print(len(runtime._dropped), gradient() > 0)
""")
    assert (code, line) == (0, "0 True")


@pytest.mark.parametrize("again", ["ti.init(arch=arch, log_level='error')", "ti.reset()"])
def test_a_script_that_starts_taichi_anew_gets_one_error_and_can_go_on(again):
    """Arrays of a render are gone with their runtime: they must be neither used nor freed."""
    code, line = outcome(f"""
t.init()
ti = runtime.ti
arch = ti.cfg.arch
first, second, third = leaf(), leaf(), leaf()
images = [gaussian(color).render().sum() for color in (first, second, third)]
images[0].backward()
{again}
try:
    images[1].backward()
except RuntimeError as error:
    message = str(error)
del images; gc.collect()
print(message[:26], gradient() == round(float(first.grad), 3))
""")
    assert (code, line) == (0, "Taichi was started anew (t True")


def test_a_fit_whose_callback_starts_taichi_anew_says_so():
    code, line = outcome("""
t.init()
ti = runtime.ti
def again(report): ti.init(arch=ti.cfg.arch, log_level="error")
try:
    t.fit(torch.ones(2, 2, 1), gaussian(torch.zeros(1, 1)), steps=40, on_report=again)
except RuntimeError as error:
    print(str(error)[:26])
""")
    assert (code, line) == (0, "Taichi was started anew (t")


FORK = """
import multiprocessing
def child(queue):
    try:
        queue.put(gradient())
    except RuntimeError as error:
        queue.put(str(error))
context = multiprocessing.get_context("fork")
queue = context.Queue()
process = context.Process(target=child, args=(queue,), daemon=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_forked_after_the_start_is_told_to_be_spawned():
    code, line = outcome(f"""
t.init(); gradient()
{FORK}
process.start()
print(queue.get(timeout=60), gradient() > 0)
process.join(60)
assert process.exitcode == 0
""")
    assert code == 0 and "get_context('spawn')" in line and line.endswith("True"), line


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.skipif(here != "cpu", reason="GPU drivers themselves need not survive a fork")
def test_a_child_forked_before_the_start_renders():
    code, line = outcome(f"{FORK}\nprocess.start()\nprint(queue.get(timeout=60) == gradient())\n")
    assert (code, line) == (0, "True")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_ends():
    """At its end Python would wait for Taichi's threads, which a forked child lacks."""
    code, line = outcome("""
t.init(); gradient()
import signal
child = os.fork()
if not child:
    signal.alarm(60)
    sys.exit(3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""")
    assert (code, line) == (0, "3")


@pytest.mark.skipif(sys.platform == "win32", reason="Taichi does not ask for HOME there")
@pytest.mark.parametrize("home", [None, "unwritable"])
def test_a_home_that_is_missing_or_cannot_be_written_is_no_matter(home, tmp_path):
    """Root may write everywhere, so the unwritable home is a folder inside a file."""
    (tmp_path / "unwritable").touch()
    change = "os.environ.pop('HOME', None)" if home is None else "None"
    variables = {"XDG_CACHE_HOME": str(tmp_path / "unwritable")} if home else {}
    script = f"""
import os, subprocess, sys
{change}
script = {GAUSSIAN + "print(gradient())"!r}
done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
print(done.returncode, done.stderr, done.stdout.strip())
"""
    done = run(script, TAICHI2DGS_BACKEND=here, TMPDIR=str(tmp_path), **variables)
    assert done.stdout.split()[0] == "0", done.stdout


@pytest.mark.parametrize(
    "options", ["default_ip=runtime.ti.i64", "opt_level=0", "real_matrix_scalarize=False"]
)
def test_a_runtime_of_the_script_that_cannot_work_is_refused_by_name(options):
    """With 64-bit integers LLVM aborts; at level 0 renders were off by a fifth."""
    code, line = outcome(f"""
runtime.ti.init(arch=runtime.ti.cpu, log_level="error", {options})
try:
    gradient()
except RuntimeError as error:
    print(error)
""")
    named = options.replace("runtime.ti.", "")
    assert code == 0 and f"Taichi was started with {named}" in line, line


@pytest.mark.parametrize("options", ["default_fp=runtime.ti.f64", "fast_math=True", "debug=True"])
def test_a_runtime_of_the_script_with_other_options_works(options):
    code, line = outcome(f"""
runtime.ti.init(arch=runtime.ti.cpu, log_level="error", {options})
other = gaussian(torch.ones(1, 1))
print(float((other.render() - t.reference.render(other)).abs().max()) < 1e-6, gradient() > 0)
""")
    assert (code, line) == (0, "True True")
