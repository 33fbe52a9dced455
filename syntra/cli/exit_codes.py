"""The exit codes of the command line, and the errors that carry them. Scripts and unit files may rely on them.

Numbers from 64 up are those of sysexits.h, which systemd names in its logs; 130 and 141 are the shell's 128 + signal.
`exec` is the exception: once its command has run, it exits with the command's exit code.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from syntra.utils.errors import AgentError


class ExitCode(IntEnum):
    """How the command line ended."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_WELL = 3
    UNAVAILABLE = 69
    TEMPORARY = 75
    REFUSED = 77
    CONFIGURATION = 78
    INTERRUPTED = 130
    CLOSED_PIPE = 141


EPILOG = """\
exit codes:
  0    done
  1    the operation failed
  2    wrong usage, or an invalid service file
  3    `status` or `doctor` found something wrong
  69   cannot reach the agent or the container engine
  75   busy; try again
  77   permission denied
  78   the configuration is invalid
  130  interrupted
  141  broken pipe
`exec` exits with the exit code of its command."""

_BY_ERROR_CODE = {
    "INVALID_PAYLOAD": ExitCode.USAGE,
    "RUNTIME_UNAVAILABLE": ExitCode.UNAVAILABLE,
    "ENGINE_UNREACHABLE": ExitCode.UNAVAILABLE,
    "ENGINE_TIMEOUT": ExitCode.UNAVAILABLE,
    "STORE_UNAVAILABLE": ExitCode.UNAVAILABLE,
    "BUSY": ExitCode.TEMPORARY,
    "LIMIT_REACHED": ExitCode.TEMPORARY,
    "PERMISSION_DENIED": ExitCode.REFUSED,
    "CONFIGURATION": ExitCode.CONFIGURATION,
}


def of_error(code: str) -> ExitCode:
    """The exit code for an error's machine-readable code; a code that is not listed is a general failure."""
    return _BY_ERROR_CODE.get(code, ExitCode.FAILED)


class CliError(AgentError):
    """One sentence for stderr, and the exit code."""

    def __init__(self, sentence: str, exit_code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class CommandFailed(CliError):
    """The `error` object of a `command_response`; its code decides the exit code. `data` is its `details`."""

    def __init__(self, code: str, message: str, details: str = "", data: Mapping[str, object] | None = None) -> None:
        super().__init__(f"{message} ({code})" + (f"\n{details}" if details else ""), of_error(code))
        self.code = code
        self.message = message
        self.data = data or {}
