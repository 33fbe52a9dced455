"""Run programs of another processor under qemu, known to the kernel in one user namespace and nowhere else."""

from __future__ import annotations

import os
import shutil

from build.errors import ToolsMissing

REGISTER = """
format=$1; shift
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc && printf %s "$format" >/proc/sys/fs/binfmt_misc/register || exit 98
exec "$@"
"""
"""Formats of programs belong to a user namespace (Linux 6.7), so the machine itself learns of none."""
FORMATS = {
    "aarch64": (
        r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
        r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
    )
}
"""The first bytes of a program, and which bits of them count (Linux, admin-guide/binfmt-misc.rst)."""
FLAGS = "POCF"
"""`F` opens the emulator now, so that it works below another root; `P` keeps the name that a program has."""


def emulated(arch: str) -> list[str]:
    """The beginning of a command line in which programs for `arch` run; empty for this machine's own processor."""
    if arch == os.uname().machine:
        return []
    emulator = shutil.which(f"qemu-{arch}-static")
    if emulator is None:
        raise ToolsMissing(f"cannot run programs for {arch}: install qemu-user-static")
    format_line = f":{arch}:M::{FORMATS[arch]}:{emulator}:{FLAGS}"
    return ["unshare", "--map-root-user", "--mount", "sh", "-c", REGISTER, "sh", format_line]
