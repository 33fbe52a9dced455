"""What Nuitka compiles to C, and what ships as bytecode. Pure.

Compiling the third-party packages was measured to cost many minutes and megabytes and to gain no start-up time; the
import of the whole program is as fast from bytecode. So only our own package becomes C.
"""

from __future__ import annotations

OWN_PACKAGE = "syntra"
NOT_COMPILED = "syntra.controlplane"
"""The reference control plane is for development: its C code would only cost build time."""
ASK_HOW_THEY_WERE_BUILT = (
    "syntra.agent.update.installation",
    "syntra.cli.doctor",
    "syntra.cli.version",
    "syntra.utils.own_program",
)
"""These look for `__compiled__`, which only compiled modules have."""


def decision(module_name: str, *, quick: bool) -> str | None:
    """`bytecode`, or None for Nuitka's own choice, which is to compile. With `quick`, our modules are bytecode too.

    Modules whose names start with `__` are the program's entry; `-preLoad` and `-postLoad` are made by Nuitka itself
    and have no file that could be byte-compiled.
    """
    if module_name.startswith("__") or module_name.endswith(("-preLoad", "-postLoad")):
        return None
    if module_name in ASK_HOW_THEY_WERE_BUILT:
        return None
    own = module_name == OWN_PACKAGE or module_name.startswith(OWN_PACKAGE + ".")
    return None if own and not quick and not module_name.startswith(NOT_COMPILED) else "bytecode"
