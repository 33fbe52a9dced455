"""The error of an install or uninstall."""

from __future__ import annotations

from syntra.utils.errors import AgentError


class InstallError(AgentError):
    """The install or uninstall was refused or failed. What it had done is undone, unless the text says otherwise."""
