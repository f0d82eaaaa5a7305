"""Assemble every module of a folder for real chips, and say what each kernel is made of.

Usage: python sass_report.py FOLDER LOG [--registers N]

FOLDER holds the PTX that the driver wrote, LOG what it got as FAKECUDA_LOG: `launch_all.py` makes
both. Prints a table with one row for each chip, kernel and kind of configuration, with the most of
all configurations. Exits with 1 if a module cannot be assembled, if a kernel spills registers, or
if it uses more than N of them. Needs ptxas, cuobjdump and nvdisasm, in PATH or from pip's packages
nvidia-cuda-nvcc, nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm.
"""

import argparse
import collections
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CHIPS = {"sm_80": "sm_80", "sm_90": "sm_86"}  # a chip, and the target that its PTX names
COLUMNS = ("registers", "stack", "spills", "instructions", "float atomics", "loops of CAS")
ATOMIC = r"(RED|ATOM)G?\.\S*"
SASS = r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?(?!NOP)(.*?)\s*;"
Row = dict[str, int]


def tools() -> dict[str, str]:
    """The environment in which NVIDIA's tools are found, those of pip's packages first."""
    folders = [str(p) for entry in sys.path for p in sorted(Path(entry).glob("nvidia/*/bin"))]
    return os.environ | {"PATH": os.pathsep.join([*folders, os.environ["PATH"]])}


def assemble(ptx: Path, chip: str) -> dict[str, Row] | str:
    """Return what each kernel of a module uses on a chip, or why it cannot be assembled."""
    text = re.sub(r"\.target sm_\d+", f".target {CHIPS[chip]}", ptx.read_text().rstrip("\0"))
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder, "module.ptx"), str(Path(folder, "module.cubin"))
        source.write_text(text)
        command = ["ptxas", f"-arch={chip}", "-v", str(source), "-o", binary]
        done = subprocess.run(command, capture_output=True, text=True, env=tools())
        if done.returncode:
            return f"{ptx.name} for {chip}: {done.stderr.strip()}"
        command = ["cuobjdump", "-sass", binary]
        code = subprocess.run(command, capture_output=True, text=True, env=tools(), check=True)
    used = resources(done.stderr)
    for name, lines in instructions(code.stdout).items():
        if name in used:
            atomics = [line for line in lines if re.match(ATOMIC, line)]
            used[name]["instructions"] = len(lines)
            used[name]["float atomics"] = sum(".F32" in a or ".F64" in a for a in atomics)
            used[name]["loops of CAS"] = sum(".CAS" in a for a in atomics)
    return used


def resources(said: str) -> dict[str, Row]:
    """What ptxas -v says of each kernel."""
    used, name = {}, ""
    for line in said.splitlines():
        if match := re.search(r"Compiling entry function '(\w+)'", line):
            name = match[1]
            used[name] = dict.fromkeys(COLUMNS, 0)
        elif match := re.search(r"(\d+) bytes stack.* (\d+) bytes spill st.* (\d+) bytes sp", line):
            if name:
                used[name]["stack"] = int(match[1])
                used[name]["spills"] = int(match[2]) + int(match[3])
        elif (match := re.search(r"Used (\d+) registers", line)) and name:
            used[name]["registers"] = int(match[1])
    return used


def instructions(listing: str) -> dict[str, list[str]]:
    """Instructions of each function in a listing by cuobjdump, without their guards."""
    functions, name = collections.defaultdict(list), ""
    for line in listing.splitlines():
        if match := re.search(r"Function : (\S+)", line):
            name = match[1]
        elif match := re.match(SASS, line):
            functions[name].append(match[1])
    return functions


def owners(log: Path) -> dict[str, str]:
    """The configuration that first loaded each module."""
    found, configuration = {}, "start"
    for line in log.read_text().splitlines():
        word, _, rest = line.partition(" ")
        if word == "config":
            configuration = rest
        elif word == "module":
            found.setdefault(rest, configuration)
    return found


def kind_of(name: str, configuration: str) -> str:
    """A kernel without the numbers that Taichi adds, with what is unusual in its configuration."""
    match = re.match(r"(\w+?)_c\d+_\d+(_kernel_\d+\w*)", name)
    said = [word for word in configuration.split() if word in ("float64", "cholesky", "sum")]
    return " ".join([f"{match[1]}{match[2]}" if match else name, *said])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("--registers", type=int, default=255, help="most that a kernel may use")
    options = parser.parse_args()
    owned, worst, errors = owners(options.log), {}, []
    jobs = [(ptx, chip) for ptx in sorted(options.folder.glob("*.ptx")) for chip in CHIPS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(assemble, *zip(*jobs, strict=True)))
    for (ptx, chip), used in zip(jobs, results, strict=True):
        if isinstance(used, str):
            errors.append(used)
            continue
        for name, row in used.items():
            configuration = owned.get(ptx.stem, "")
            if row["spills"] or row["registers"] > options.registers:
                errors.append(f"{name} for {chip} ({configuration}): {row}")
            key = (chip, kind_of(name, configuration))
            row["modules"] = 1 + worst.get(key, {}).get("modules", 0)
            worst[key] = {c: max(row[c], worst.get(key, row)[c]) for c in (*COLUMNS, "modules")}
    print("chip", "kernel", "modules", *COLUMNS, sep="\t")
    for (chip, kind), row in sorted(worst.items()):
        print(chip, kind, row["modules"], *(row[column] for column in COLUMNS), sep="\t")
    print(f"{len(jobs)} modules assembled, {len(errors)} complaints", *errors, sep="\n")
    return bool(errors or not jobs)


if __name__ == "__main__":
    sys.exit(main())
