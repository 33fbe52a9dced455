"""What Nuitka compiles to C, and what ships as bytecode. Pure.

Everything is bytecode, but for the few modules below. C code was measured to be slower: of the same load, the telemetry
process took up to 1.6 times as much CPU time with `syntra.telemetry` as C, because CPython specializes bytecode for the
types that it meets. C also costs minutes and megabytes for each target.
"""

from __future__ import annotations

ASK_HOW_THEY_WERE_BUILT = (
    "syntra.agent.update.installation",
    "syntra.cli.doctor",
    "syntra.cli.version",
    "syntra.utils.own_program",
)
"""These look for `__compiled__`, which only compiled modules have."""


def decision(module_name: str) -> str | None:
    """`bytecode`, or None for Nuitka's own choice, which is to compile.

    Modules whose names start with `__` are the program's entry; `-preLoad` and `-postLoad` are made by Nuitka itself
    and have no file that could be byte-compiled.
    """
    if module_name.startswith("__") or module_name.endswith(("-preLoad", "-postLoad")):
        return None
    return None if module_name in ASK_HOW_THEY_WERE_BUILT else "bytecode"
