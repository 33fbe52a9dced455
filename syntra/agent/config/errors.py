"""What configuration can do wrong.

AgentError
└── ConfigurationError   the process cannot start with this; the command line turns it into exit code 78
"""

from __future__ import annotations

from syntra.utils.errors import AgentError


class ConfigurationError(AgentError):
    """One line that names the file or variable, the key, and what is wrong; never a secret's value."""

    code = "CONFIGURATION"

    def __init__(self, source: str, reason: str) -> None:
        """`source`: a path or `from the environment`; `reason` starts with the key."""
        super().__init__(source, reason)
        self.source = source
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot load configuration {self.source}: {self.reason}"
