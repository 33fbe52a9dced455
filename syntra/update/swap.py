"""The steps of an update of an installed agent, in order. A kill at any of them leaves an agent that starts.

Before `current` changes, nothing that runs is touched. After it, `trial` exists and is on the disk, so `boot-check`
brings the previous version back when the new one does not hold. Everything blocks; call it from a thread.
"""

from __future__ import annotations

import enum
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from syntra.update import layout
from syntra.update.errors import UpdateError
from syntra.update.new_program import require_configuration, require_version
from syntra.update.state_file import change_state
from syntra.update.trial import Trial
from syntra.update.unpack import unpack

RESERVE_BYTES = 16 * 1024 * 1024
"""Left free beside the archive and the program."""


class Step(enum.Enum):
    """What is done next; `before` gets each before it is done."""

    RECORD = "record the update"
    CLEAN = "remove leftovers"
    STAGE = "make the staging directory"
    DOWNLOAD = "download the archive"
    UNPACK = "unpack the program"
    TRY = "run the new program"
    PUBLISH = "name the new version"
    UNSTAGE = "remove the archive"
    BEGIN_TRIAL = "write the trial"
    LINK_PREVIOUS = "link previous"
    LINK_CURRENT = "link current"


Before = Callable[[Step], None]


def prepare(
    root: Path,
    version: str,
    size: int,
    download: Callable[[Path], None],
    *,
    configuration: tuple[str, ...] = (),
    before: Before = lambda step: None,
) -> None:
    """Put a version beside the others: `download` writes its archive to a path. Nothing that runs is touched.

    `configuration` are the options that name this server's configuration; the new program must accept it. Raises
    UpdateError; what was begun is removed then.
    """
    try:
        before(Step.RECORD)
        change_state(root, lambda state: replace(state, phase=f"preparing {version}"))
        before(Step.CLEAN)
        layout.remove_leftovers(root)
        _require_space(root, size)
        before(Step.STAGE)
        staging = root / layout.STAGING
        with layout.on_disk(root):
            staging.mkdir(mode=0o700)
            before(Step.DOWNLOAD)
            archive = staging / f"{version}.tar.gz"
            download(archive)
            before(Step.UNPACK)
            program = layout.new_partial(root, version) / layout.PROGRAM
            unpack(archive, program)
        before(Step.TRY)
        require_version(program, version)
        if configuration:
            require_configuration(program, configuration, version)
        before(Step.PUBLISH)
        layout.publish(root, version)
        before(Step.UNSTAGE)
        with layout.on_disk(root):
            shutil.rmtree(staging)
    except UpdateError:
        with suppress(UpdateError):
            layout.remove_leftovers(root)
        raise


def swap(
    root: Path,
    from_version: str,
    to_version: str,
    *,
    was_connected: bool = False,
    before: Before = lambda step: None,
) -> None:
    """Make a prepared version current, on trial. The caller then ends the agent, and its service manager starts it.

    The journal needs no copy: an older version reads the journal of a newer one (see `agent.journal.database`). Raises
    UpdateError; the old version is current then.
    """
    try:
        before(Step.BEGIN_TRIAL)
        layout.write_trial(root, Trial(to_version=to_version, from_version=from_version, was_connected=was_connected))
        before(Step.LINK_PREVIOUS)
        layout.link(root, layout.PREVIOUS, from_version)
        before(Step.LINK_CURRENT)
        layout.link(root, layout.CURRENT, to_version)
    except UpdateError:
        if layout.linked(root, layout.CURRENT) == from_version:
            with suppress(UpdateError):
                layout.remove_trial(root)
        raise


def _require_space(root: Path, size: int) -> None:
    with layout.on_disk(root):
        found = os.statvfs(root)
    free = found.f_bavail * found.f_frsize
    # The program inside is compressed already, so it is about as large as its archive.
    needed = 2 * size + RESERVE_BYTES
    if free < needed:
        raise UpdateError(
            f"{free // 2**20} MiB are free on the filesystem of {root}, and the update needs {needed // 2**20} MiB",
            "free space there and try again",
            "UPDATE_FAILED",
        )
