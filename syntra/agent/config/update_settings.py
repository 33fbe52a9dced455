"""The section `[update]`: where new versions of the agent come from, and when they are installed. Pure.

Only this file's values decide; the control plane cannot change them.
"""

from __future__ import annotations

from dataclasses import field
from pathlib import Path

from syntra.agent.config.schema import Kind, key
from syntra.utils.frozen import frozen


@frozen
class UpdateSettings:
    """Updates of the agent."""

    mode: str = field(
        default="notify",
        metadata=key(
            Kind.CHOICE,
            "off: no checks, and the control plane cannot update; notify: checks are shown; auto: they are installed",
            choices=("off", "notify", "auto"),
        ),
    )
    channel: str = field(
        default="stable", metadata=key(Kind.CHOICE, "which releases are checked", choices=("stable", "beta"))
    )
    base_url: str = field(
        default="https://releases.syntra.dev/agent", metadata=key(Kind.HTTP_URL, "the release server")
    )
    root_keys_file: Path | None = field(
        default=None,
        metadata=key(Kind.PATH, "root keys of a mirror that signs releases itself; absent: the built-in ones"),
    )
    window: str = field(
        default="",
        metadata=key(Kind.WINDOW, "local time in which mode auto installs, such as 02:00-05:00; empty means any time"),
    )
    allow_downgrade: str = field(
        default="off",
        metadata=key(Kind.CHOICE, "whether an older version than before may be installed", choices=("off", "on")),
    )
    check_interval_secs: int = field(
        default=21600, metadata=key(Kind.INTEGER, "seconds between two checks", minimum=1, maximum=604_800)
    )
    confirm_secs: float = field(
        default=60.0,
        metadata=key(Kind.NUMBER, "how long a new version must be connected and in order to be kept", maximum=3600),
    )
    confirm_timeout_secs: float = field(
        default=300.0,
        metadata=key(Kind.NUMBER, "longest wait for that before a new version ends itself", minimum=1, maximum=3600),
    )
