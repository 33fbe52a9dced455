"""Nuitka user plugin: hands the compiler what `build.decision` decides."""

from __future__ import annotations

from types import CodeType

from nuitka.plugins.PluginBase import NuitkaPluginBase

from build.canonical_code import Canonical
from build.decision import decision


class BytecodePlugin(NuitkaPluginBase):  # type: ignore[misc]  # Nuitka has no types
    """The hooks that Nuitka calls."""

    plugin_name = "syntra-bytecode"
    plugin_desc = "Nearly all code as bytecode, the same in each build."

    def __init__(self) -> None:
        self._canonical = Canonical()

    def decideCompilation(self, module_name: str) -> str | None:
        return decision(str(module_name))

    def onFrozenModuleBytecode(self, module_name: str, is_package: bool, bytecode: CodeType) -> CodeType:
        """Nuitka marshals what this returns."""
        return self._canonical.code(bytecode)
