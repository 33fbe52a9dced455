"""Prints how a stop or restart ended. The agent answers these once: when they are done, or when they take long."""

from __future__ import annotations

from syntra.cli.as_typed import to_type
from syntra.cli.exit_codes import ExitCode
from syntra.cli.reading import Json, texts
from syntra.cli.terminal import err, out, out_json, printable


def report(data: Json, *, kind: str, done: str, subject: str, as_json: bool) -> ExitCode:
    """Print the answer's data. TEMPORARY when the operation still runs; `services` then shows how it ends."""
    if as_json:
        out_json(data)
    unfinished = data.get("completed") is False
    if unfinished:
        err(to_type(f"the {kind} of {subject} continues in the background; see `syntra-agent ps`"))
    elif not as_json:
        out(printable(f"{done} {subject}"))
        for note in texts(data, "notes"):
            out(printable(f"note: {note}"))
    return ExitCode.TEMPORARY if unfinished else ExitCode.OK
