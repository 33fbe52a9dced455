"""What the updater remembers between runs, as `update-state.json`. Pure.

An unreadable file counts as empty, so that a damaged one never ends updates; the trial has a file of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any

from syntra.update.version import Version
from syntra.utils.frozen import frozen

REJECTED_MAX = 20


@frozen
class Outcome:
    """How the last update ended. `at` is in seconds since the epoch."""

    result: str
    """`updated`, `rolled_back`, `failed`, `interrupted` or `undecided`."""
    from_version: str
    to_version: str
    reason: str
    at: float

    @property
    def sentence(self) -> str:
        """For status, alerts and the log."""
        match self.result:
            case "updated":
                return f"updated from {self.from_version} to {self.to_version}"
            case "rolled_back" | "undecided":
                return f"version {self.to_version} was rolled back to {self.from_version}: {self.reason}"
            case "interrupted":
                return f"the update to {self.to_version} was interrupted; {self.from_version} continues"
            case _:
                return f"the update to {self.to_version} failed: {self.reason}"


@frozen
class UpdateState:
    """The memory of the updater.

    `highest` is the highest version of a verified manifest, by channel; an older manifest is a replay. `rejected` are
    versions that were rolled back, with the reason. `phase` is the step before which the state was last written.
    """

    highest: Mapping[str, str] = field(default_factory=dict)
    installed: str = ""
    """The highest version that held on this server."""
    keys_serial: int = 0
    latest_time: float = 0.0
    """The latest time that a verified document proved; the clock may be behind it."""
    checked_at: float = 0.0
    """The last successful check, in seconds since the epoch."""
    rejected: Mapping[str, str] = field(default_factory=dict)
    phase: str = ""
    outcome: Outcome | None = None
    is_reported: bool = True
    """Whether the outcome has been reported."""

    def encode(self) -> bytes:
        """The file's content."""
        outcome = dict(vars(self.outcome)) if self.outcome else None
        return (json.dumps({**vars(self), "outcome": outcome}, indent=2, sort_keys=True) + "\n").encode()

    @classmethod
    def decode(cls, data: bytes) -> UpdateState:
        """The state; an empty one where the file is damaged."""
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return cls()
        if not isinstance(value, dict):
            return cls()
        return cls(
            highest=_versions(value.get("highest")),
            installed=_version(value.get("installed")),
            keys_serial=int(_number(value.get("keys_serial"))),
            latest_time=_number(value.get("latest_time")),
            checked_at=_number(value.get("checked_at")),
            rejected=_versions_with_reasons(value.get("rejected")),
            phase=_text(value.get("phase")),
            outcome=_outcome(value.get("outcome")),
            is_reported=value.get("is_reported") is not False,
        )

    def with_seen(self, other: UpdateState) -> UpdateState:
        """What the documents of a release server have shown; nothing that was seen is forgotten."""
        channels = {**self.highest, **other.highest}
        return replace(
            self,
            highest={name: higher(self.highest.get(name, ""), other.highest.get(name, "")) for name in channels},
            keys_serial=max(self.keys_serial, other.keys_serial),
            latest_time=max(self.latest_time, other.latest_time),
            checked_at=max(self.checked_at, other.checked_at),
        )

    def with_outcome(self, outcome: Outcome) -> UpdateState:
        """The update ended."""
        return replace(self, outcome=outcome, phase="", is_reported=False)

    def with_rejected(self, version: str, reason: str) -> UpdateState:
        """A version that was rolled back; only an explicit order installs it again."""
        kept = [(one, why) for one, why in self.rejected.items() if one != version][-REJECTED_MAX + 1 :]
        return replace(self, rejected=dict([*kept, (version, reason)]))

    def with_installed(self, version: str) -> UpdateState:
        """A version that holds."""
        rejected = {one: why for one, why in self.rejected.items() if one != version}
        return replace(self, installed=higher(self.installed, version), rejected=rejected)


def higher(one: str, other: str) -> str:
    """The newer of two versions; an empty one is older than all."""
    return max((version for version in (one, other) if version), key=Version.parse, default="")


def _number(value: object) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # NaN and infinity, which JSON in Python accepts, compare as false.
    return float(value) if is_number and 0 <= value < 1e12 else 0.0  # type: ignore[arg-type,operator]  # checked above


def _text(value: object) -> str:
    return value[:1000] if isinstance(value, str) else ""


def _version(value: object) -> str:
    try:
        return str(Version.parse(_text(value)))
    except ValueError:
        return ""


def _versions(value: object) -> dict[str, str]:
    items: dict[Any, Any] = value if isinstance(value, dict) else {}
    return {_text(name): version for name, text in items.items() if (version := _version(text))}


def _versions_with_reasons(value: object) -> dict[str, str]:
    items: dict[Any, Any] = value if isinstance(value, dict) else {}
    return {version: _text(reason) for name, reason in items.items() if (version := _version(name))}


def _outcome(value: object) -> Outcome | None:
    if not isinstance(value, dict) or not _text(value.get("result")):
        return None
    return Outcome(
        result=_text(value.get("result")),
        from_version=_text(value.get("from_version")),
        to_version=_text(value.get("to_version")),
        reason=_text(value.get("reason")),
        at=_number(value.get("at")),
    )
