"""A root directory with almost nothing in it, to run a program as a small, an old or a foreign system would."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from build.emulation import emulated
from build.errors import ToolsMissing
from tests.engine import missing

ENTER = """
root=$1 keep=$2; shift 2
for place in /proc /dev /sys /run "$keep"; do
  mkdir -p "$root$place" && mount --rbind "$place" "$root$place" || exit 99
done
exec chroot "$root" "$@"
"""
"""In a mount namespace of its own, which ends with the program; `keep` is the folder with the test's files."""


def bare_root(folder: Path, program: Path, *trees: Path) -> Path:
    """A root with the program as `/syntra-agent`, busybox, a home, and the files of `trees`: a C library, or none."""
    busybox = shutil.which("busybox")
    if busybox is None:
        missing("cannot make a root: busybox is missing; install busybox-static")
        raise AssertionError
    for tree in trees:
        shutil.copytree(tree, folder, symlinks=True, dirs_exist_ok=True)
    for name in ("bin", "root", "tmp", "etc", "var"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "tmp").chmod(0o1777)
    shutil.copy(busybox, folder / "bin/busybox")
    (folder / "bin/sh").symlink_to("busybox")
    (folder / "var/run").symlink_to("../run")
    (folder / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    shutil.copy(program, folder / "syntra-agent")
    return folder


def inside(root: Path, keep: Path, arch: str = os.uname().machine) -> list[str]:
    """The beginning of a command line that runs `/syntra-agent` in the root; the process stays the one started.

    A program for another processor runs under qemu.
    """
    try:
        emulator = emulated(arch)
    except ToolsMissing as error:
        missing(str(error))
        raise
    own_mounts = ["unshare", "--mount", "--propagation", "private"]
    return [*emulator, *own_mounts, "sh", "-c", ENTER, "sh", str(root), str(keep), "/syntra-agent"]
