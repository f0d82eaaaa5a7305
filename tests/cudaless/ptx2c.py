"""Translate PTX, as LLVM writes it for Taichi, to C in which each function is run by one thread.

Usage: python ptx2c.py in.ptx out.c

Addresses of all state spaces are pointers of the host. A kernel NAME becomes `launch_NAME`, a loop
over its threads. What one thread cannot do alone (barriers, shuffles, votes) ends a launch with an
error when it is reached; what is not known at all is an error here.
"""

import sys
from pathlib import Path

from ptx.module import translate
from ptx.values import TranslationError

if __name__ == "__main__":
    try:
        translated = translate(Path(sys.argv[1]).read_text().rstrip("\0"))
    except TranslationError as error:
        sys.exit(f"ptx2c: {error}")
    Path(sys.argv[2]).write_text(translated)
