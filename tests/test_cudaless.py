"""The CUDA driver without a GPU: what it does not know is an error, and faults are found.

Kernels are written in PTX by hand, so that no part of Taichi is needed; see cudaless/README.md.
"""

import ctypes
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import environment, scatter

import taichi2dgs

CUDALESS = Path(__file__).resolve().parent / "cudaless"
emulated = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not shutil.which("gcc"), reason="needs gcc on Linux"
)
KERNEL = """
.version 7.0
.target sm_80
.address_size 64
.visible .entry kernel(.param .u64 first, .param .u64 second)
{{
    .reg .pred %p<9>;
    .reg .b16 %h<9>;
    .reg .b32 %r<9>;
    .reg .f32 %f<9>;
    .reg .b64 %rd<9>;
    ld.param.u64 %rd1, [first];
    ld.param.u64 %rd2, [second];
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, %tid.x;
    mad.lo.s32 %r1, %r1, %r2, %r3;  // the number of this thread
    mul.wide.s32 %rd3, %r1, 4;
    add.s64 %rd1, %rd1, %rd3;       // its elements
    add.s64 %rd2, %rd2, %rd3;
{body}
    ret;
}}
"""
NEIGHBOUR = "ld.global.u32 %r4, [%rd1+4]; add.s32 %r4, %r4, 1; st.global.u32 [%rd1], %r4;"
COUNTER = """ld.param.u64 %rd2, [second]; ld.global.u32 %r4, [%rd2]; add.s32 %r4, %r4, 1;
    st.global.u32 [%rd2], %r4;"""


def launch(body, *arrays, grid=1, block=None, freed=None, **variables) -> tuple[dict, str]:
    """Run a kernel on two arrays; return what came back, and what the driver said."""
    arrays = (*arrays, ("i", [0] * 4))[:2]
    job = {"ptx": KERNEL.format(body=body), "arrays": arrays, "grid": grid}
    job["block"] = block or len(arrays[0][1]) // grid
    if freed is not None:
        job["freed"] = freed
    command = [CUDALESS / "run.sh", sys.executable, CUDALESS / "run_kernel.py"]
    plain = {k: v for k, v in os.environ.items() if not k.startswith("FAKECUDA_") or "DIR" in k}
    named = {f"FAKECUDA_{name.upper()}": str(value) for name, value in variables.items()}
    done = subprocess.run(
        command, input=json.dumps(job), env=plain | named, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@emulated
@pytest.mark.parametrize(
    ("instruction", "named"),
    [
        ("frobnicate.b32 %r4, %r1;", "'frobnicate.b32'"),
        ("lop3.b32 %r4, %r1, %r2, %r3, 0x96;", "'lop3.b32'"),
        ("add.rz.f32 %f1, %f2, %f3;", ".rz"),
        ("min.NaN.f32 %f1, %f2, %f3;", ".NaN"),
        ("cvt.rn.f16.f32 %h1, %f1;", ".f16"),
        ("add.sat.s32 %r4, %r1, %r2;", ".sat"),
        ("atom.global.inc.u32 %r4, [%rd1], %r2;", ".inc"),
        ("mov.u32 %r4, %clock;", "%clock"),
        (".shared .b32 cache[4];", ".shared .b32 cache[4]"),
        ("ld.global.u32 %q4, [%rd1];", "%q4"),
    ],
)
def test_what_is_unknown_is_an_error_that_names_it(instruction, named):
    answer, said = launch(instruction, ("i", [1, 2]))
    assert (answer["call"], answer["error"]) == ("cuModuleLoadDataEx", 218)
    assert f"ptx2c: unknown {'declaration' if 'shared' in named else ''}".rstrip() in said
    assert named in said and "in kernel" in said


@emulated
@pytest.mark.parametrize("instruction", ["bar.sync 0;", "shfl.sync.idx.b32 %r4, %r1, 0, 31, -1;"])
def test_what_needs_other_threads_ends_the_launch(instruction):
    answer, said = launch(instruction, ("i", [1, 2]))
    assert answer["error"] == answer["after"] == 801
    assert f"{instruction.split()[0]} needs more than one thread" in said
    unreached = f"setp.eq.s32 %p1, 0, 1; @%p1 {instruction}"
    assert launch(unreached, ("i", [1, 2]))[0]["error"] == 0


@emulated
@pytest.mark.parametrize(
    ("access", "place"),
    [
        ("st.global.u32 [%rd1], %r1;", "0 bytes after the end of an array of 12 bytes"),
        (
            "ld.global.u32 %r4, [%rd1+40]; st.global.u32 [%rd2], %r4;",
            "28 bytes after the end of an array of 12 bytes",
        ),
        ("ld.global.u32 %r4, [%rd1+-8000]; st.global.u32 [%rd2], %r4;", "near no array"),
        ("atom.global.add.u32 %r4, [%rd1+12], %r1;", "after the end of an array of 12 bytes"),
    ],
)
def test_an_access_beyond_an_array_is_an_illegal_address(access, place):
    answer, said = launch(access, ("i", [1, 2, 3]), block=4)
    assert answer["call"] == "cuLaunchKernel" and answer["error"] == answer["after"] == 700
    assert "kernel touches address" in said and place in said and "of block 0" in said


@emulated
def test_a_freed_array_is_an_illegal_address():
    answer, said = launch("st.global.u32 [%rd1], %r1;", ("i", [1, 2]), freed=0)
    assert answer["error"] == 700 and "in an array of 8 bytes that was freed" in said


@emulated
def test_a_thread_without_a_context_is_refused_as_by_a_real_driver():
    script = """
import ctypes, threading
from run_kernel import CallError, connect
call, seen = connect(), []
def work():
    try:
        call("cuMemAlloc_v2", ctypes.byref(ctypes.c_void_p()), 4)
        seen.append(0)
    except CallError as error:
        seen.append(error.args[1])
call("cuCtxCreate_v2", ctypes.byref(ctypes.c_void_p()), 0, None)
thread = threading.Thread(target=work); thread.start(); thread.join(); work()
print(seen)
"""
    command = [CUDALESS / "run.sh", sys.executable, "-c", script]
    done = subprocess.run(command, cwd=CUDALESS, capture_output=True, text=True)
    assert done.stdout == "[201, 0]\n", done.stderr
    assert "cuMemAlloc_v2 in a thread without a current context" in done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")
def test_commands_that_start_at_once_share_one_driver(tmp_path):
    compiler = tmp_path / "gcc"  # a quick one, for many tries
    compiler.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\n: > "$2"\n')
    compiler.chmod(0o755)
    for folder in (tmp_path / str(number) for number in range(10)):
        plain = os.environ | {
            "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
            "FAKECUDA_DIR": str(folder),
        }
        started = [subprocess.Popen([CUDALESS / "run.sh", "true"], env=plain) for _ in range(16)]
        assert [one.wait() for one in started] == [0] * len(started)
        (driver,) = folder.iterdir()
        assert (driver / "libcuda.so").exists()


@emulated
def test_float_atomics_add_and_return_what_was_there():
    body = """ld.param.u64 %rd4, [second]; mov.f32 %f1, 0f3F000000;
    atom.global.add.f32 %f2, [%rd4], %f1; st.global.f32 [%rd1], %f2;"""
    arrays = ("f", [-1.0] * 1000), ("f", [2.0])
    answer, _ = launch(body, *arrays, grid=4, order="shuffle", races=1)
    assert answer["arrays"][1] == [502.0]
    assert sorted(answer["arrays"][0]) == [2 + 0.5 * i for i in range(1000)]


@emulated
def test_arithmetic_keeps_to_ptx_where_c_differs():
    lines = [
        ("div.s32 %r4, %r5, 0;", -1), ("rem.s32 %r4, 7, 0;", 7), ("shl.b32 %r4, 1, 32;", 0),
        ("shr.s32 %r4, -8, 40;", -1), ("bfe.s32 %r4, 0x80000000, 28, 8;", -8),
        ("bfe.u32 %r4, 0x80000000, 28, 8;", 8), ("clz.b32 %r4, 1;", 31),
        ("mul.hi.s32 %r4, 0x40000000, -8;", -2), ("min.s32 %r4, -1, 1;", -1),
        ("mov.f32 %f1, 0fFF800000; cvt.rzi.s32.f32 %r4, %f1;", -(2**31)),
        ("mov.f32 %f1, 0f7FC00000; min.f32 %f2, %f1, 0f3F800000; cvt.rzi.s32.f32 %r4, %f2;", 1),
        ("mov.f32 %f1, 0f40200000; cvt.rni.s32.f32 %r4, %f1;", 2),
        ("mov.f32 %f1, 0f00000001; mul.ftz.f32 %f1, %f1, 0f4B800000; mov.b32 %r4, %f1;", 0),
        ("add.cc.u32 %r5, 0xFFFFFFFF, 1; addc.u32 %r4, 5, 0;", 6),
    ]  # fmt: skip
    body = "\n".join(
        f"{code} st.global.u32 [%rd1+{4 * i}], %r4;" for i, (code, _) in enumerate(lines)
    )
    answer, _ = launch(body, ("i", [99] * len(lines)), block=1)
    assert answer["arrays"][0] == [expected for _, expected in lines]


@emulated
def test_a_kernel_without_races_does_not_depend_on_the_order():
    body = "ld.global.u32 %r4, [%rd1]; mad.lo.s32 %r4, %r4, 3, %r1; st.global.u32 [%rd2], %r4;"
    arrays = ("i", list(range(300))), ("i", [0] * 300)
    for order in ("forward", "reverse", "shuffle"):
        answer, _ = launch(body, *arrays, grid=3, order=order, races=1)
        assert answer["arrays"][1] == [4 * i for i in range(300)], order


@emulated
def test_reading_what_another_thread_writes_depends_on_the_order():
    results = [
        launch(NEIGHBOUR, ("i", [0] * 9), block=8, order=order)[0]["arrays"][0]
        for order in ("forward", "reverse", "shuffle")
    ]
    assert results[0] == [1] * 8 + [0] and results[1] == [8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert results[2] not in results[:2]


@emulated
@pytest.mark.parametrize("order", ["forward", "reverse", "shuffle"])
@pytest.mark.parametrize(
    ("body", "named"),
    [
        (NEIGHBOUR, "a word that another thread"),
        (COUNTER, "it reads a word that another thread wrote"),
        ("st.global.u32 [%rd2], %r1; st.global.u32 [%rd2+4], %r1;", "writes a word that another"),
        ("red.global.add.u32 [%rd2], 1; ld.global.u32 %r4, [%rd2+4];", "by an atomic"),
    ],
)
def test_a_race_is_found_in_any_order(body, named, order):
    """The race here is a lost update of a counter, which no order of whole threads can show."""
    answer, said = launch(body, ("i", [0] * 9), ("i", [0] * 9), block=8, order=order, races=1)
    assert answer["error"] == 719 and "a race" in said and named in said


@emulated
@pytest.mark.parametrize("order", ["backwards", "Shuffle"])
def test_an_order_that_is_misspelt_is_refused(order):
    answer, said = launch("", ("i", [0]), order=order)
    assert answer["error"] == 1 and f"FAKECUDA_ORDER={order}; expected forward" in said


@emulated
def test_a_step_is_nine_launches_without_float_atomics_and_spills(tmp_path):
    """Without NVIDIA's tools, of the instructions that they would assemble."""
    script = """
import torch, taichi2dgs
from taichi2dgs.fitting.engine import Engine
from taichi2dgs.fitting.picture import Picture
taichi2dgs.init()
options = taichi2dgs.FitOptions(settings=taichi2dgs.RenderSettings())
Engine([Picture(torch.rand(9, 9, 3), torch.rand(4, 8))], options)
"""
    variables = {"FAKECUDA_DIR": str(tmp_path), "FAKECUDA_MODE": "dump"}
    variables["TAICHI2DGS_BACKEND"] = "cuda"
    command = [CUDALESS / "run.sh", sys.executable, "-c", script]
    subprocess.run(command, env=environment() | variables, check=True)
    (found,) = [path for path in tmp_path.glob("*.ptx") if "entry step_" in path.read_text()]
    text = found.read_text()
    assert text.count(".visible .entry step_") == 9
    atomics = re.findall(r"(?:atom|red)\.\S+", text)
    assert atomics and not [name for name in atomics if ".f" in name or ".cas" in name]
    assert ".local" not in text  # arrays that registers cannot hold
    sys.path.insert(0, str(CUDALESS))
    sass_report = importlib.import_module("sass_report")
    sys.path.remove(str(CUDALESS))
    paths = sass_report.tools()["PATH"]
    if shutil.which("ptxas", path=paths) and shutil.which("cuobjdump", path=paths):
        for chip in sass_report.CHIPS:
            used = sass_report.assemble(found, chip)
            assert not isinstance(used, str), used
            assert max(row["registers"] for row in used.values()) <= 64
            assert not any(row["spills"] + row["float atomics"] for row in used.values())


def test_device_memory_is_given_back_by_renders_and_fits(emulated_cuda, photograph):
    """On the emulated driver, which counts: renders, gradients and fits, over and over."""
    live = emulated_cuda.fakecuda_live_bytes
    live.restype = ctypes.c_long
    held = []
    for _ in range(4):
        color = torch.rand(100, 3, requires_grad=True)
        g = scatter(100, photograph.shape[:2])
        start = taichi2dgs.Gaussians(g.xy, g.log_scale, g.theta, color, g.size)
        start.render().sum().backward()
        taichi2dgs.fit(photograph, start.detach(), steps=2)
        del start, color
        held.append(live())
    assert held[1] == held[2] == held[3], held
