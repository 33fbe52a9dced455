"""Nuitka user plugin: hands the compiler what `build.decision` decides."""

from __future__ import annotations

import os

from nuitka.plugins.PluginBase import NuitkaPluginBase

from build.decision import decision

QUICK = os.environ.get("SYNTRA_BUILD_QUICK") == "1"
"""Minutes of CPU time less, for a program that tests run."""


class BytecodePlugin(NuitkaPluginBase):  # type: ignore[misc]  # Nuitka has no types
    """The hook that Nuitka calls; the decision is the function above."""

    plugin_name = "syntra-bytecode"
    plugin_desc = "Some code compiled, the rest as bytecode."

    def decideCompilation(self, module_name: str) -> str | None:
        return decision(str(module_name), quick=QUICK)
