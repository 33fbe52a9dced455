"""Give back pages of the program's own file that only its start has read.

A compiled program holds the bytecode of all its modules in one block, and walks through that block when it starts, so
that all of it counts as this process's memory: 8 MB in each of two processes. The kernel reads a page again, from its
cache, when a module is imported later.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

from syntra.utils.own_program import own_program

_SMAPS = Path("/proc/self/smaps")
_MADV_DONTNEED = 4  # madvise(2)
_LEAST_BYTES = 1 << 20
"""Below this it is not worth a call."""


def unchanged(smaps: str, program: str) -> Iterator[tuple[int, int]]:
    """Start and size in bytes of mappings of the file `program` that are read-only and exactly as in the file.

    `smaps` is the text of /proc/PID/smaps (proc(5)). A mapping with pages that the loader has changed is left out, in
    memory or swapped out: these cannot be read again.
    """
    start = end = 0
    wanted = False
    for line in smaps.splitlines():
        name, _, rest = line.partition(" ")
        if not name.endswith(":"):
            # "7f00-7f10 r--p 00000000 fd:00 1234   /path"
            start, end = (int(part, 16) for part in name.split("-"))
            words = rest.split(maxsplit=4)
            wanted = words[0] == "r--p" and len(words) > 4 and words[4].strip() == program
        elif wanted and name in ("Anonymous:", "Swap:"):
            wanted = rest.split()[0] == "0"
        elif wanted and name == "VmFlags:" and end - start >= _LEAST_BYTES:
            yield start, end - start


def return_own_pages() -> None:
    """Do that for this very program; nothing from source, where modules are files of their own."""
    program = Path(own_program()[-1])
    if program.is_absolute():
        return_program_pages(program)


def return_program_pages(program: Path) -> int:
    """Unmap what a compiled program has only read; returns the bytes of the mappings. Linux only, never fails."""
    try:
        found = list(unchanged(_SMAPS.read_text(errors="surrogateescape"), str(program)))
    except OSError:
        return 0
    if not found:
        return 0
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return sum(size for start, size in found if madvise(start, size, _MADV_DONTNEED) == 0)
