"""Follows an operation to its end: a live view in a terminal, plain lines in a pipe, JSON with --json."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from syntra.cli.agent_client import ask, operate
from syntra.cli.as_typed import as_typed, to_type
from syntra.cli.deploy_view import DRAW_SECS, JsonView, LiveView, PlainView, View, stamped
from syntra.cli.exit_codes import CliError, ExitCode, of_error
from syntra.cli.failure import show_failure
from syntra.cli.look import BOLD, GREEN, Look, look_of, seconds, wrapped
from syntra.cli.reading import Json, rows, section, text, texts
from syntra.cli.terminal import err, out, printable

IDLE_SECS = 3600.0
"""Longest silence between two reports when the deployment's own timeout is unknown: a slow pull reports nothing."""


def follow(
    socket: Path,
    kind: str,
    payload: Mapping[str, object],
    *,
    subject: str,
    as_json: bool,
    idle: float,
    color: str = "auto",
    is_detached: bool = False,
) -> ExitCode:
    """Send the request and show its reports. OK only when it ended in `running`.

    Interrupting, or losing the connection, does not stop the operation: the agent has accepted it. `is_detached`:
    return as soon as that is so.
    """
    look = look_of(sys.stdout, color)
    view: View = JsonView() if as_json else LiveView(look) if look.is_live else PlainView()
    begun = time.monotonic()
    accepted, last = False, dict[str, object]()
    try:
        for event in operate(socket, kind, payload, idle=idle, tick=view.tick, tick_secs=DRAW_SECS):
            if accepted:
                last = dict(event)
                view.show(last)
            elif is_detached:
                view.show(event) if as_json else out(printable(f"the {kind} of {subject} {to_type(_CONTINUES)}"))
                return ExitCode.OK
            accepted = True
    except BaseException:
        view.close(is_good=None)
        if accepted:
            err(f"the {kind} of {subject} {to_type(_CONTINUES)}")
        raise
    status, error = text(last, "status"), section(last, "error")
    # A rollback that was requested ends in `rolled_back`: without an error that is the success.
    is_good = status == "running" or (kind == "rollback" and status == "rolled_back" and not error)
    view.close(is_good=is_good)
    if is_good:
        if not as_json:
            _conclude(socket, last, subject, look, time.monotonic() - begun)
        return ExitCode.OK
    show_failure(kind, subject, {**last, **_named(last)})
    found = of_error(text(error, "code", ""))
    # The agent accepted the operation, so only "the engine is unavailable" is distinguished from a failure.
    return found if found is ExitCode.UNAVAILABLE else ExitCode.FAILED


_CONTINUES = "continues in the background; see `syntra-agent ps`"


def _named(last: Json) -> dict[str, object]:
    """The sentences of a report, with the name that the person typed in place of the service's id."""
    error = section(last, "error")
    message = text(last, "message", "")
    return {
        "message": as_typed(message),
        **({"error": {**error, "message": as_typed(text(error, "message", ""))}} if text(error, "message", "") else {}),
    }


def _conclude(socket: Path, last: Json, subject: str, look: Look, secs: float) -> None:
    """The last line: version, replicas, where it answers, and how long it took."""
    service = _service(socket, text(last, "service_id", ""))
    said, *notes = as_typed(text(last, "message", "done")).split("; ")
    if notes:
        out(wrapped(printable(f"note: {'; '.join(notes)}"), sys.stdout))
    parts = [f"{subject} {image}" if (image := text(service, "image", "")) else subject, said]
    parts += texts(service, "urls")[:2]
    line = f"{printable(', '.join(parts))} in {seconds(secs)}"
    if look.is_live:
        sign, _, rest = wrapped(f"{look.done_sign} {line}", sys.stdout).partition(" ")
        out(f"{look.paint(sign, GREEN)} {look.paint(rest, BOLD)}")
    else:
        out(stamped(f"100% {line}", datetime.now(UTC)))


def _service(socket: Path, service_id: str) -> Json:
    """What `ps` knows of the service; nothing when the agent cannot say: the operation itself ended well."""
    try:
        listed = rows(ask(socket, "list_services", {}), "services")
    except CliError:
        return {}
    return next((one for one in listed if text(one, "service_id") == service_id), {})
