#!/bin/sh
# Run a command on Taichi's CUDA backend without a GPU; see README.md.
#   tests/cudaless/run.sh python -m pytest tests/test_render.py
set -e
here=$(cd "$(dirname "$0")" && pwd)
FAKECUDA_DIR=${FAKECUDA_DIR:-${TMPDIR:-/tmp}/fakecuda-$(id -u)}
mkdir -p "$FAKECUDA_DIR"
FAKECUDA_DIR=$(cd "$FAKECUDA_DIR" && pwd)
# The driver is built once for each content of this folder, of which it takes a copy. It appears as
# a whole, as two commands may find none at the same time: then the first that is ready counts.
driver=$FAKECUDA_DIR/driver-$(cd "$here" && cat run.sh driver/* ptx/*.py ptx2c.py | cksum | cut -d ' ' -f 1)
if [ ! -e "$driver" ]; then
    fresh=$(mktemp -d "$driver.XXXXXX")
    cp -r "$here/driver" "$here/ptx" "$here/ptx2c.py" "$fresh"
    gcc -O2 -Wall -Wextra -shared -fPIC -fvisibility=hidden -DSOURCES="\"$driver\"" \
        -o "$fresh/libcuda.so" "$fresh"/driver/*.c -ldl -lpthread
    mv -T "$fresh" "$driver" 2>/dev/null || rm -r "$fresh"
    [ -e "$driver/libcuda.so" ]
fi
export FAKECUDA_DIR LD_LIBRARY_PATH="$driver${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export TAICHI2DGS_BACKEND="${TAICHI2DGS_BACKEND:-cuda}" TI_OFFLINE_CACHE="${TI_OFFLINE_CACHE:-0}"
# Few threads: idle ones cost nothing on a GPU, but here. An H100 has 132 and 32.
export FAKECUDA_SMS="${FAKECUDA_SMS:-4}" FAKECUDA_BLOCKS="${FAKECUDA_BLOCKS:-8}"
exec "$@"
