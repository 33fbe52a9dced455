"""Follows a deployment to its end: one updating line on a terminal, plain lines in a pipe, JSON with --json."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from syntra.cli.agent_client import operate
from syntra.cli.exit_codes import ExitCode, of_error
from syntra.cli.reading import Json, number, section, text, texts
from syntra.cli.terminal import err, out, out_json, printable, write

IDLE_SECS = 3600.0
"""Longest silence between two reports when the deployment's own timeout is unknown: a slow pull reports nothing."""

LOG_LINES = 20
"""How many of the last lines of a failed container are shown."""


def follow(
    socket: Path, kind: str, payload: Mapping[str, object], *, subject: str, as_json: bool, idle: float
) -> ExitCode:
    """Send the request and show its reports. OK only when it ended in `running`.

    Interrupting, or losing the connection, does not stop the operation: the agent has accepted it.
    """
    report = _Json() if as_json else _Line() if sys.stdout.isatty() else _Plain()
    accepted, last = False, dict[str, object]()
    try:
        for event in operate(socket, kind, payload, idle=idle):
            if accepted:
                last = dict(event)
                report.show(last)
            accepted = True
    except BaseException:
        report.close()
        if accepted:
            err(f"the {kind} of {subject} continues in the background; see `syntra-agent ps`")
        raise
    report.close()
    return _outcome(kind, subject, last)


def _outcome(kind: str, subject: str, last: Json) -> ExitCode:
    status, error = text(last, "status"), section(last, "error")
    # A rollback that was requested ends in `rolled_back`: without an error that is the success.
    if status == "running" or (kind == "rollback" and status == "rolled_back" and not error):
        return ExitCode.OK
    reason = text(error, "message", text(last, "error_message", text(last, "message", "no reason given")))
    code = text(error, "code", "")
    # The agent's sentence continues after the reason, with what is seen to run.
    report = text(last, "message", "")
    reason = report if report.startswith(reason) else reason
    undone = "; the previous version is running again" if status == "rolled_back" and "running" not in reason else ""
    # A reason may say by itself what could not be done.
    verb = "roll back" if kind == "rollback" else kind
    said = reason if reason.startswith(f"cannot {verb} ") else f"cannot {verb} {subject}: {reason}"
    err(f"{said}{f' ({code})' if code else ''}{undone}")
    for line in texts(last, "logs")[-LOG_LINES:]:
        err(f"  | {printable(line, keep=chr(9))}")
    found = of_error(code)
    # The agent accepted the operation, so only "the engine is unavailable" is distinguished from a failure.
    return found if found is ExitCode.UNAVAILABLE else ExitCode.FAILED


class _Plain:
    """One line per change, for pipes and logs."""

    def __init__(self) -> None:
        self._before = ""

    def show(self, event: Json) -> None:
        line = _sentence(event)
        if line != self._before:
            out(line)
        self._before = line

    def close(self) -> None:
        """No line is open."""


class _Line:
    """One line that is overwritten, for a terminal; its last content stays."""

    def __init__(self) -> None:
        self._open = False

    def show(self, event: Json) -> None:
        width = shutil.get_terminal_size().columns - 1
        # CR and "erase in line" (ECMA-48 8.3.41). A line wider than the terminal could not be erased.
        write(sys.stdout, f"\r\x1b[2K{_sentence(event)[:width]}")
        self._open = True

    def close(self) -> None:
        if self._open:
            write(sys.stdout, "\n")
        self._open = False


class _Json:
    """Every event as one JSON line."""

    def show(self, event: Json) -> None:
        out_json(event)

    def close(self) -> None:
        """No line is open."""


_LATE_PHASES = {"stop_old": "stopping", "cleanup": "finishing"}
"""The contract has no status for these phases: `starting: stop …` would contradict itself."""


def _sentence(event: Json) -> str:
    percent = number(event, "progress_percent")
    doing = text(event, "status")
    if doing in ("starting", "health_checking"):
        doing = _LATE_PHASES.get(text(event, "phase"), doing)
    shown = f"{percent:3.0f}% " if percent is not None else ""
    return printable(f"{shown}{doing}: {text(event, 'message', text(event, 'phase'))}")
