"""The end of an update: what a start finds, and what is remembered of it. Blocks on the disk.

The state is written before the trial is removed, so a kill between them repeats the same end.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from syntra.update import layout
from syntra.update.state import Outcome, UpdateState
from syntra.update.state_file import change_state, read_state
from syntra.update.trial import Finding, Trial, find
from syntra.utils.frozen import frozen

NO_CONNECTION = "the control plane did not accept it in time"
NO_ENGINE = "the container engine did not answer it in time"
OUTSIDE = (NO_CONNECTION, NO_ENGINE)
"""Reasons that may lie outside the new version; it is rejected for them only once the old version is in order."""


@frozen
class Found:
    """What a start found. `trial` is the one under way, or the one that has just ended."""

    finding: Finding
    trial: Trial | None

    @property
    def is_undecided(self) -> bool:
        """Whether the reason may lie outside the new version."""
        return self.finding is Finding.ROLLED_BACK and self.trial is not None and self.trial.reason in OUTSIDE


def settle(root: Path, running: str, now: float) -> Found:
    """Call it once at the start of the installed agent. Records an update that was rolled back or interrupted."""
    trial = layout.read_trial(root)
    found = Found(finding=find(trial, running), trial=trial)
    phase = read_state(root).phase
    match found.finding:
        case Finding.ROLLED_BACK if trial is not None:
            reason = trial.reason or f"it did not hold in {trial.starts} starts"
            if found.is_undecided:
                outcome = _outcome("undecided", trial, reason, now)
                change_state(root, lambda state: state.with_outcome(outcome))
            else:
                outcome = _outcome("rolled_back", trial, reason, now)
                change_state(root, lambda state: state.with_outcome(outcome).with_rejected(outcome.to_version, reason))
        case Finding.INTERRUPTED if trial is not None:
            outcome = _outcome("interrupted", trial, "", now)
            change_state(root, lambda state: state.with_outcome(outcome))
        case Finding.NOTHING if phase:
            cut_off = Trial(to_version=phase.rpartition(" ")[2], from_version=running)
            outcome = _outcome("interrupted", cut_off, "", now)
            change_state(root, lambda state: state.with_outcome(outcome))
        case _:
            return found
    layout.remove_trial(root)
    layout.remove_leftovers(root)
    return found


def confirm(root: Path, running: str, now: float) -> Outcome | None:
    """The version on trial holds. Returns the outcome; None where no trial of this version is under way."""
    trial = layout.read_trial(root)
    if trial is None or trial.to_version != running:
        return None
    outcome = _outcome("updated", trial, "", now)
    change_state(root, lambda state: state.with_installed(running).with_outcome(outcome))
    layout.remove_trial(root)
    return outcome


def reject(root: Path, version: str, reason: str) -> None:
    """The old version is connected and the new one was not: the new one is to blame."""

    def change(state: UpdateState) -> UpdateState:
        outcome = replace(state.outcome, result="rolled_back") if state.outcome else None
        return replace(state.with_rejected(version, reason), outcome=outcome)

    change_state(root, change)


def record_failure(root: Path, from_version: str, to_version: str, reason: str, now: float) -> Outcome:
    """An update that failed before the links changed."""
    outcome = Outcome(result="failed", from_version=from_version, to_version=to_version, reason=reason, at=now)
    change_state(root, lambda state: state.with_outcome(outcome))
    return outcome


def mark_reported(root: Path) -> None:
    """The outcome has been reported."""
    change_state(root, lambda state: replace(state, is_reported=True))


def _outcome(result: str, trial: Trial, reason: str, now: float) -> Outcome:
    return Outcome(result=result, from_version=trial.from_version, to_version=trial.to_version, reason=reason, at=now)
