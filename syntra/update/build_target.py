"""The platform that this program was built for."""

from __future__ import annotations

import os
import sys

from syntra.update.manifest import Target


def build_target() -> Target:
    """From the interpreter's own build, such as `x86_64-linux-gnu`; the kernel may be of another architecture."""
    multiarch = getattr(sys.implementation, "_multiarch", "")
    arch, _, system = multiarch.partition("-")
    libc = system.rpartition("-")[2] if system else _libc()
    return Target(os="linux", arch=arch or os.uname().machine, libc="musl" if libc == "musl" else "gnu")


def _libc() -> str:
    try:
        return "gnu" if (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc") else "musl"
    except (ValueError, OSError):
        return "musl"
