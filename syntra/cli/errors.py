"""How a verb says that it did not do what was asked.

AgentError
└── CliError            carries the exit code
    └── CommandFailed   the agent answered, and said no
"""

from __future__ import annotations

from syntra.cli.exit_codes import ExitCode, of_error
from syntra.utils.errors import AgentError


class CliError(AgentError):
    """One sentence for stderr and the exit code that goes with it."""

    def __init__(self, sentence: str, exit_code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class CommandFailed(CliError):
    """The `error` object of a `command_response`: its code decides the exit code."""

    def __init__(self, code: str, message: str, details: str = "") -> None:
        super().__init__(f"{message} ({code})" + (f"\n{details}" if details else ""), of_error(code))
        self.code = code
