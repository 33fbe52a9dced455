"""The trial of a new version: the file that `boot-check` reads, and what it says after a start. Pure.

The file exists from just before the links change until the new version holds. See `boot_check.sh` for its lines; a line
`reason=…` is the agent's own word on why it ended a start.
"""

from __future__ import annotations

import enum

from syntra.utils.frozen import frozen

STARTS_ALLOWED = 3
"""As in `boot_check.sh`: the next start brings the previous version back."""
REASON_MAX = 300


@frozen
class Trial:
    """The version on trial, the one to return to, the starts so far, and the last reason for the end of one."""

    to_version: str
    from_version: str
    was_connected: bool = False
    """Whether the old version was connected to the control plane; then the new version must be, too."""
    starts: int = 0
    reason: str = ""

    def encode(self) -> str:
        """The file's text."""
        lines = [f"to={self.to_version}", f"from={self.from_version}"]
        lines += ["connected=yes"] if self.was_connected else []
        lines += ["start"] * self.starts
        lines += [reason_line(self.reason)] if self.reason else []
        return "".join(f"{line}\n" for line in lines)

    @classmethod
    def decode(cls, text: str) -> Trial | None:
        """The trial; None when the text names no versions, as `boot-check` ignores such a file."""
        lines = text.splitlines()
        values = dict(line.partition("=")[::2] for line in lines if "=" in line)
        if not values.get("to") or not values.get("from"):
            return None
        return cls(
            to_version=values["to"],
            from_version=values["from"],
            was_connected=values.get("connected") == "yes",
            starts=lines.count("start"),
            reason=values.get("reason", ""),
        )


def reason_line(reason: str) -> str:
    """A reason as one line of the file."""
    printable = "".join(char if char.isprintable() else " " for char in reason)
    return f"reason={printable[:REASON_MAX]}"


class Finding(enum.Enum):
    """What a start finds of an update."""

    NOTHING = "nothing"
    ON_TRIAL = "on trial"
    """This version is the new one, and must show that it holds."""
    INTERRUPTED = "interrupted"
    """The update was cut off before the links changed; this is the old version, and nothing happened to it."""
    ROLLED_BACK = "rolled back"
    """The new version was started and did not hold; this is the old version again."""


def find(trial: Trial | None, running: str) -> Finding:
    """What the trial means for the version that runs now."""
    if trial is None:
        return Finding.NOTHING
    if running == trial.to_version:
        return Finding.ON_TRIAL
    return Finding.ROLLED_BACK if trial.starts else Finding.INTERRUPTED
