"""Nuitka user plugin: what gets compiled to C, what ships as bytecode, and where the payload unpacks.

Compiling the third-party packages was measured to cost many minutes and megabytes and to gain no start-up time; the
import of the whole program is as fast from bytecode. So only our own package becomes C.

After the distribution folder is complete the plugin strips its libraries (some wheels ship theirs with symbols) and
names the unpack directory after the folder's content. Nuitka rewrites files in place when the content behind a name
changes, which fails while the old program runs; a name per content can never meet that.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from nuitka.options import Options
from nuitka.plugins.PluginBase import NuitkaPluginBase

OWN_PACKAGE = "syntra"
NOT_COMPILED = "syntra.controlplane"
"""The reference control plane is for development: its C code would only cost build time."""
CONTENT_MARK = "CONTENT"
"""Stands in the unpack directory's name until the content is known."""


def decision(module_name: str) -> str | None:
    """`bytecode` for third-party modules; None (Nuitka's own choice: compiled) for ours and for the start-up modules.

    Modules whose names start with `__` are the program's entry; `-preLoad` and `-postLoad` are made by Nuitka itself
    and have no file that could be byte-compiled.
    """
    if module_name.startswith(NOT_COMPILED):
        return "bytecode"
    own = module_name == OWN_PACKAGE or module_name.startswith(OWN_PACKAGE + ".")
    if own or module_name.startswith("__") or module_name.endswith(("-preLoad", "-postLoad")):
        return None
    return "bytecode"


def content_digest(folder: Path) -> str:
    """Twelve hexadecimal digits over the names, modes and bytes of every file below `folder`."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix().encode()
        body = hashlib.sha256(path.read_bytes()).digest()
        executable = b"x" if os.access(path, os.X_OK) else b"-"
        whole.update(len(name).to_bytes(4, "big") + name + executable + body)
    return whole.hexdigest()[:12]


def strip_libraries(folder: Path) -> None:
    """Drop the symbols a running program does not need from every shared library below `folder`."""
    for path in sorted(folder.rglob("*.so*")):
        if path.is_file() and not path.is_symlink():
            subprocess.run(["strip", "--strip-unneeded", str(path)], check=True)


class BytecodePlugin(NuitkaPluginBase):
    """The hooks Nuitka calls; the decisions are the functions above."""

    plugin_name = "syntra-bytecode"
    plugin_desc = "Own code compiled, the rest as bytecode, a private unpack directory per content."

    def decideCompilation(self, module_name: str) -> str | None:
        return decision(str(module_name))

    def onStandaloneDistributionFinished(self, dist_dir: str) -> None:
        folder = Path(dist_dir)
        strip_libraries(folder)
        # The bootstrap, which bakes the directory's name in, is compiled after this hook; no hook hands the name over.
        spec = Options.options.onefile_tempdir_spec
        Options.options.onefile_tempdir_spec = spec.replace(CONTENT_MARK, content_digest(folder))
