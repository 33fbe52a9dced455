"""The compiler: zig, a clang with the C libraries of every target, and small programs that choose the target."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from build import cache
from build.sources import PINS
from build.targets import Target

CLANG_VERSION = "21.1.0"
"""What `clang -dumpversion` answers to Nuitka; zig rejects that option together with a version of glibc."""


def zig() -> Path:
    """The compiler, installed from the package index."""
    version = PINS["tools"]["ziglang"]

    def make(place: Path) -> None:
        wanted = ["--no-deps", "--no-compile", f"--target={place}", f"ziglang=={version}"]
        cache.run([sys.executable, "-m", "pip", "install", "-q", *wanted], place / "pip.log")

    return cache.entry("zig", cache.digest(version), make) / "ziglang/zig"


def programs(target: Target) -> Path:
    """A directory with `cc`, `c++`, `clang`, `clang++`, `ar` and `ranlib` for the target.

    The linker of musl programs makes them static or dynamic: dynamic ones may load extension modules.
    """
    compiler = zig()
    linking = "" if target.libc == "gnu" else "-dynamic"

    def make(place: Path) -> None:
        for name, command in (("cc", "cc"), ("clang", "cc"), ("c++", "c++"), ("clang++", "c++")):
            write(
                place / name,
                f"case ${{1-}} in -dumpversion | -dumpfullversion) echo {CLANG_VERSION}; exit 0 ;; esac\n"
                # Configuration scripts and Python's build embed dates only when the compiler lets them.
                f'exec {compiler} {command} -target {target.zig} "$@" {linking} -Wno-date-time\n',
            )
        for name in ("ar", "ranlib"):
            write(place / name, f'exec {compiler} {name} "$@"\n')

    key = cache.digest(str(compiler), target.zig, Path(__file__))
    return cache.entry(f"programs-{target.name}", key, make)


def write(path: Path, body: str) -> None:
    """An executable shell script that keeps the compiler's own caches with ours."""
    caches = cache.root() / "zig"
    path.write_text(f"#!/bin/sh\nexport ZIG_GLOBAL_CACHE_DIR={caches} ZIG_LOCAL_CACHE_DIR={caches}\n{body}")
    path.chmod(0o755)


def compiler_version() -> str:
    """The version of zig, as it prints it."""
    return subprocess.run([str(zig()), "version"], capture_output=True, text=True, check=True).stdout.strip()
