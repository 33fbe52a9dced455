"""Why an operation failed: the reason once and whole, the container's last lines, and what to type next."""

from __future__ import annotations

import re
import sys

from syntra.cli.as_typed import to_type
from syntra.cli.look import wrapped
from syntra.cli.reading import Json, section, text, texts
from syntra.cli.terminal import err, printable

LOG_LINES = 20
"""How many of the last lines of a failed container are shown."""

_IS_HTML = re.compile(r"<(!doctype|html|head|body|title|center|h1|p|div)\b", re.IGNORECASE)
_UNSEEN = re.compile(r"<(script|style)\b.*?</\1>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[!/a-zA-Z][^<>]*>")
_KEPT = re.compile(r"; the failed container is kept for a day: see `([^`]+)`")


def cleaned(reason: str) -> str:
    """One line without control characters, and without the tags of a web page that a proxy or registry answered."""
    if _IS_HTML.search(reason):
        reason = _TAG.sub(" ", _UNSEEN.sub(" ", reason))
    # The sequences of a terminal go as a whole (ECMA-48 5.4).
    reason = re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", reason)
    return printable(" ".join(reason.split()))


def show_failure(kind: str, subject: str, last: Json) -> None:
    """Print the end of a failed operation to stderr. `subject` is what the person typed."""
    status, error = text(last, "status"), section(last, "error")
    reason = text(error, "message", text(last, "error_message", text(last, "message", "no reason given")))
    # The agent's sentence continues after the reason, with what is seen to run.
    report = text(last, "message", "")
    reason = report if report.startswith(reason) else reason
    kept = _KEPT.search(reason)
    reason = cleaned(_KEPT.sub("", reason))
    undone = "; the previous version is running again" if status == "rolled_back" and "running" not in reason else ""
    # A reason may say by itself what could not be done.
    verb = "roll back" if kind == "rollback" else kind
    said = reason if reason.startswith(f"cannot {verb} ") else f"cannot {verb} {subject}: {reason}"
    code = text(error, "code", "")
    err(wrapped(f"{said}{f' ({code})' if code else ''}{undone}", sys.stderr))
    for line in texts(last, "logs")[-LOG_LINES:]:
        err(f"  | {printable(line, keep=chr(9))}")
    if kept:
        err(f"next: {printable(to_type(kept[1]))}")
    else:
        err(f"next: {printable(to_type(f'syntra-agent status {subject}'))}")
