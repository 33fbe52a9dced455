"""The command line that runs this very program again, in the same version even while an update replaces its file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_PROC = Path("/proc/self")


def own_program(*, is_compiled: bool | None = None, proc: Path = _PROC) -> list[str]:
    """The beginning of a command line; the caller adds the verb.

    `proc` is the process in procfs; without `is_compiled` the module itself knows.

    A compiled program is run from the directory that it was unpacked to, not from the file that was downloaded: that
    file may be a newer version by now. Where the program brings its own C library, the running executable is the
    library's loader (musl's `ld-musl.so.1`), and the program is its argument.
    """
    if is_compiled is None:
        is_compiled = "__compiled__" in globals()
    if not is_compiled:
        return [sys.executable, "-m", "syntra"]
    executable = (proc / "exe").readlink()
    if not executable.name.startswith("ld-"):
        return [str(executable)]
    # LOADER --argv0 NAME -- PROGRAM …
    words = (proc / "cmdline").read_bytes().split(b"\0")
    program = os.fsdecode(words[words.index(b"--") + 1])
    return [str(executable), "--argv0", sys.argv[0], "--", program]
