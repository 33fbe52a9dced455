"""The memory of the updater on disk. Blocks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from syntra.update import layout
from syntra.update.errors import UpdateError
from syntra.update.state import UpdateState
from syntra.utils import atomic_file

STATE_MAX = 256 * 1024
# The schedule, the trial and a command change the state in threads of one agent. Other processes take the update lock.
_CHANGING = threading.Lock()


def read_state(root: Path) -> UpdateState:
    """The memory of the updater; an empty one where there is none. Raises UpdateError."""
    path = root / layout.STATE
    try:
        with path.open("rb") as file:
            return UpdateState.decode(file.read(STATE_MAX))
    except FileNotFoundError:
        return UpdateState()
    except OSError as refused:
        raise UpdateError(
            f"cannot read {path}: {refused.strerror}", "run it as the owner of that file", "UPDATE_FAILED"
        ) from refused


def change_state(root: Path, change: Callable[[UpdateState], UpdateState]) -> UpdateState:
    """Replace the state durably by what `change` makes of it. Returns the new one. Raises UpdateError."""
    with _CHANGING:
        before = read_state(root)
        after = change(before)
        if after != before:
            with layout.on_disk(root):
                atomic_file.write(root / layout.STATE, after.encode(), 0o644)
        return after
