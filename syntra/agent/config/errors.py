"""Errors of the configuration.

AgentError
└── ConfigurationError   the process cannot start with this configuration; the command line exits with code 78
"""

from __future__ import annotations

from syntra.utils.errors import AgentError


class ConfigurationError(AgentError):
    """One line that names the file or variable, the key and the problem; never a secret's value."""

    code = "CONFIGURATION"

    def __init__(self, source: str, reason: str) -> None:
        """`source`: a path or `from the environment`; `reason` starts with the key."""
        super().__init__(source, reason)
        self.source = source
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot load configuration {self.source}: {self.reason}"
