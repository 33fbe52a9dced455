"""Nuitka user plugin: hands the compiler what `build.decision` decides."""

from __future__ import annotations

import os
from types import CodeType

from nuitka.plugins.PluginBase import NuitkaPluginBase

from build.canonical_code import Canonical
from build.decision import decision

QUICK = os.environ.get("SYNTRA_BUILD_QUICK") == "1"
"""Minutes of CPU time less, for a program that tests run."""


class BytecodePlugin(NuitkaPluginBase):  # type: ignore[misc]  # Nuitka has no types
    """The hooks that Nuitka calls."""

    plugin_name = "syntra-bytecode"
    plugin_desc = "Some code compiled, the rest as bytecode."

    def __init__(self) -> None:
        self._canonical = Canonical()

    def decideCompilation(self, module_name: str) -> str | None:
        return decision(str(module_name), quick=QUICK)

    def onFrozenModuleBytecode(self, module_name: str, is_package: bool, bytecode: CodeType) -> CodeType:
        """Nuitka marshals what this returns."""
        return self._canonical.code(bytecode)
