"""Give back memory that is not needed now: pages of the program's own file, and what was freed.

A compiled program holds the bytecode of all its modules in one block, and walks through that block when it starts, so
that all of it counts as this process's memory: 8 MB in each of two processes. The kernel reads a page again, from its
cache, when a module is imported later. A library with cryptography in it is read in whole when it is loaded: 6 MB, of
which opening a sealed journal uses the smallest part.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path

from syntra.utils.own_program import own_program

_SMAPS = Path("/proc/self/smaps")
_MADV_DONTNEED = 4  # madvise(2)
_LEAST_BYTES = 1 << 20
"""Below this it is not worth a call."""
_LIBRARY = re.compile(r"^/.*\.so(\.[0-9]+)*$")


def unchanged(smaps: str, program: str) -> Iterator[tuple[int, int]]:
    """Start and size in bytes of mappings that are exactly as in their file, so the kernel can read them again.

    Of the file `program` only data counts, of shared libraries also the code.

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
            wanted = len(words) > 4 and _is_wanted(words[0], words[4].strip(), program)
        elif wanted and name in ("Anonymous:", "Swap:"):
            wanted = rest.split()[0] == "0"
        elif wanted and name == "VmFlags:" and end - start >= _LEAST_BYTES:
            yield start, end - start


def _is_wanted(permissions: str, path: str, program: str) -> bool:
    if path == program:
        return permissions == "r--p"
    return permissions in ("r--p", "r-xp") and _LIBRARY.search(path) is not None


def return_memory() -> None:
    """Return what the program needed until now and does not need at present."""
    return_own_pages()
    return_freed_memory()


def return_own_pages() -> None:
    """Do that for this very program and the libraries that it has loaded; from source, for the libraries alone."""
    return_program_pages(Path(own_program()[-1]))


def return_program_pages(program: Path) -> int:
    """Unmap what is only read; returns the bytes of the mappings. Linux only, never fails."""
    try:
        found = list(unchanged(_SMAPS.read_text(errors="surrogateescape"), str(program)))
    except OSError:
        return 0
    if not found:
        return 0
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return sum(size for start, size in found if madvise(start, size, _MADV_DONTNEED) == 0)


def return_freed_memory() -> None:
    """Make the C library return freed memory to the system; by itself it keeps the largest request's size for ever.

    It does nothing where the C library has no `malloc_trim` (musl returns memory by itself).
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
