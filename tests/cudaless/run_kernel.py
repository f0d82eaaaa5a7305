"""Run one kernel by the driver's own calls, without Taichi.

Usage: run.sh python run_kernel.py < job.json

The job has `ptx`, the text of a module with a kernel named "kernel"; `arrays`, of which the kernel
gets the addresses: [type, values] with a type of Python's `array`; `grid` and `block`, numbers of
blocks and of threads in each; and, if an array is to be given back before the launch, its index
`freed`. Prints `error`, the first one that a call returned, with the `call`, and `arrays` as the
kernel left them; after an error in a launch, `after` is what the next call returns.
"""

import array
import ctypes
import json
import sys

POINTER, WORD = ctypes.c_void_p, ctypes.c_uint32
CALLS = {
    "cuInit": [ctypes.c_int],
    "cuCtxCreate_v2": [POINTER, ctypes.c_int, POINTER],
    "cuModuleLoadDataEx": [POINTER, ctypes.c_char_p, WORD, POINTER, POINTER],
    "cuModuleGetFunction": [POINTER, POINTER, ctypes.c_char_p],
    "cuMemAlloc_v2": [POINTER, ctypes.c_size_t],
    "cuMemFree_v2": [POINTER],
    "cuMemcpyHtoD_v2": [POINTER, POINTER, ctypes.c_size_t],
    "cuMemcpyDtoH_v2": [POINTER, POINTER, ctypes.c_size_t],
    "cuLaunchKernel": [POINTER, *[WORD] * 7, POINTER, POINTER, POINTER],
}


class CallError(Exception):
    """A call of the driver returned an error."""


def connect():
    """Return a function that calls the driver by name and raises CallError."""
    driver = ctypes.CDLL("libcuda.so")

    def call(name: str, *arguments):
        function = getattr(driver, name)
        function.argtypes = CALLS[name]
        if error := function(*arguments):
            raise CallError(name, error)

    return call


def run(call, job: dict) -> list[list]:
    """Copy the arrays to the device, launch, and copy them back."""
    context, module, function = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    call("cuInit", 0)
    call("cuCtxCreate_v2", ctypes.byref(context), 0, None)
    call("cuModuleLoadDataEx", ctypes.byref(module), job["ptx"].encode(), 0, None, None)
    call("cuModuleGetFunction", ctypes.byref(function), module, b"kernel")
    hosts = [array.array(kind, values) for kind, values in job["arrays"]]
    devices = [ctypes.c_void_p() for _ in hosts]
    for host, device in zip(hosts, devices, strict=True):
        size = len(host) * host.itemsize
        call("cuMemAlloc_v2", ctypes.byref(device), size)
        call("cuMemcpyHtoD_v2", device, host.buffer_info()[0], size)
    given = (ctypes.c_void_p * len(devices))(*(ctypes.addressof(device) for device in devices))
    if "freed" in job:
        call("cuMemFree_v2", devices[job["freed"]])
    call("cuLaunchKernel", function, job["grid"], 1, 1, job["block"], 1, 1, 0, None, given, None)
    for host, device in zip(hosts, devices, strict=True):
        call("cuMemcpyDtoH_v2", host.buffer_info()[0], device, len(host) * host.itemsize)
    return [host.tolist() for host in hosts]


def main() -> None:
    call, answer = connect(), {"error": 0}
    try:
        answer["arrays"] = run(call, json.load(sys.stdin))
    except CallError as error:
        answer["call"], answer["error"] = error.args
        if error.args[1] not in (218, 500):
            try:  # whether the device is lost
                call("cuMemAlloc_v2", ctypes.byref(ctypes.c_void_p()), 4)
                answer["after"] = 0
            except CallError as later:
                answer["after"] = later.args[1]
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
