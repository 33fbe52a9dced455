"""What Nuitka compiles to C, and what ships as bytecode. Pure.

Compiling the third-party packages was measured to cost many minutes and megabytes and to gain no start-up time; the
import of the whole program is as fast from bytecode. Compiling all of our own code made an artifact of 28 MB and took
28 minutes of CPU time for each target, three quarters of it for code that waits for engines and people. So only the
package with the loops over telemetry becomes C.
"""

from __future__ import annotations

COMPILED = "syntra.telemetry"
ASK_HOW_THEY_WERE_BUILT = (
    "syntra.agent.update.installation",
    "syntra.cli.doctor",
    "syntra.cli.version",
    "syntra.utils.own_program",
)
"""These look for `__compiled__`, which only compiled modules have."""


def decision(module_name: str, *, quick: bool) -> str | None:
    """`bytecode`, or None for Nuitka's own choice, which is to compile. With `quick`, all modules are bytecode.

    Modules whose names start with `__` are the program's entry; `-preLoad` and `-postLoad` are made by Nuitka itself
    and have no file that could be byte-compiled.
    """
    if module_name.startswith("__") or module_name.endswith(("-preLoad", "-postLoad")):
        return None
    if module_name in ASK_HOW_THEY_WERE_BUILT:
        return None
    is_compiled = module_name == COMPILED or module_name.startswith(f"{COMPILED}.")
    return None if is_compiled and not quick else "bytecode"
