#!/bin/sh
# Run a command on Taichi's CUDA backend without a GPU; see README.md.
#   tests/cudaless/run.sh python -m pytest tests/test_render.py
set -e
here=$(cd "$(dirname "$0")" && pwd)
FAKECUDA_DIR=${FAKECUDA_DIR:-${TMPDIR:-/tmp}/fakecuda-$(id -u)}
mkdir -p "$FAKECUDA_DIR"
FAKECUDA_DIR=$(cd "$FAKECUDA_DIR" && pwd)
# The driver is built once for each content of this folder, of which it takes a copy.
driver=$FAKECUDA_DIR/driver-$(cd "$here" && cat driver/* ptx/*.py ptx2c.py | cksum | cut -d ' ' -f 1)
if [ ! -e "$driver/libcuda.so" ]; then
    mkdir -p "$driver"
    cp -r "$here/driver" "$here/ptx" "$here/ptx2c.py" "$driver"
    gcc -O2 -Wall -Wextra -shared -fPIC -fvisibility=hidden -DSOURCES="\"$driver\"" \
        -o "$driver/libcuda.so.$$" "$driver"/driver/*.c -ldl -lpthread
    mv "$driver/libcuda.so.$$" "$driver/libcuda.so"
fi
export FAKECUDA_DIR LD_LIBRARY_PATH="$driver${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export TAICHI2DGS_BACKEND="${TAICHI2DGS_BACKEND:-cuda}" TI_OFFLINE_CACHE="${TI_OFFLINE_CACHE:-0}"
# Few threads: idle ones cost nothing on a GPU, but here. An H100 has 132 and 32.
export FAKECUDA_SMS="${FAKECUDA_SMS:-4}" FAKECUDA_BLOCKS="${FAKECUDA_BLOCKS:-8}"
exec "$@"
