"""The command line that runs this very program again, in the same version even while an update replaces its file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_SELF = Path("/proc/self/exe")


def own_program() -> list[str]:
    """The beginning of a command line; the caller adds the verb.

    A compiled program is run from the directory that it was unpacked to, not from the file that was downloaded: that
    file may be a newer version by now. Where the program brings its own C library, the running executable is the
    library's loader (musl's `ld-musl.so.1`), and the program is its argument.
    """
    if "__compiled__" not in globals():
        return [sys.executable, "-m", "syntra"]
    executable = _SELF.readlink()
    if not executable.name.startswith("ld-"):
        return [str(executable)]
    words = Path("/proc/self/cmdline").read_bytes().split(b"\0")
    program = next(os.fsdecode(word) for word in words if Path(os.fsdecode(word)).parent == executable.parent)
    return [str(executable), "--argv0", sys.argv[0], "--", program]
