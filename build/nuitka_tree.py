"""Nuitka as builds use it: the pinned package alone, with one fix."""

from __future__ import annotations

import shutil
from pathlib import Path

from build import cache
from build import compile as compiler
from build.errors import BuildError

PATHS = "nuitka/build/static_src/HelpersSafeStrings.c"
FAULT = """\
    if (!converted) {
        abort();
    }
#else
    // On Windows"""
FIX = """\
    if (!converted) {
        while (*source != 0 && (unsigned char)*source < 128 && buffer_size > 1) {
            *target++ = (wchar_t)*source++;
            buffer_size -= 1;
        }
        if (*source != 0) {
            fputs("cannot start syntra-agent: the name of its directory is not ASCII, and the locale of LC_ALL or LANG "
                  "is not installed; set LC_ALL=C, or SYNTRA_RUNTIME_DIR to a directory with an ASCII name\\n", stderr);
            exit(2);
        }
        *target = 0;
    }
#else
    // On Windows"""
"""Without it, a program ends with SIGABRT and no word where the environment names a locale that is not installed, such
as the LANG that ssh brings along, and the C library has no C.UTF-8, which glibc has since 2.35."""


def nuitka() -> Path:
    """A folder with it: the rest of this environment is for another version of Python."""
    own = compiler.own_nuitka()
    version = (own / "Version.py").read_text()

    def make(place: Path) -> None:
        shutil.copytree(own, place / "nuitka", ignore=shutil.ignore_patterns("__pycache__"))
        source = place / PATHS
        text = source.read_text()
        if text.count(FAULT) != 1:
            raise BuildError(
                f"cannot fix Nuitka: {PATHS} has changed; see whether build/nuitka_tree.py is still needed"
            )
        source.write_text(text.replace(FAULT, FIX))

    return cache.entry("nuitka-package", cache.digest(version, Path(__file__)), make)
