"""Copies from and to replicas, as tar archives: the part of a runtime that carries them out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from syntra.model.command import CopyWay
from syntra.model.ids import ContainerId
from syntra.runtime.errors import StepFailed
from syntra.utils.frozen import frozen


@frozen
class Target:
    """Where a copy goes. `name` is that of its entry in `folder`; empty: the path is `folder`, entries keep theirs."""

    folder: str
    name: str


class CopySession(Protocol):
    """An archive under way. Reading and writing may happen at the same time."""

    @property
    def target(self) -> Target | None:
        """Where entries go; None for a copy from a replica."""

    async def read(self) -> Sequence[tuple[bool, bytes]]:
        """The next of the archive, as (False, bytes); empty once it has ended. Not read, it waits."""

    async def write(self, data: bytes) -> None:
        """Send more of the archive, waiting while it is not taken. Raises RuntimeFailure once no more is."""

    def end_input(self) -> None:
        """The archive is sent."""

    async def exit_code(self) -> int:
        """Wait for the end: 0 once all of it is copied. Raises StepFailed (COPY_FAILED) when it was not."""


class Copies(Protocol):
    """Files of replicas."""

    def copy(self, container_id: ContainerId, way: CopyWay, path: str) -> AbstractAsyncContextManager[CopySession]:
        """Begin a copy from or to an absolute path. Leaving the block before `exit_code` returned ends it.

        From: all entries are below the last name of the path, or below `.` if that is `.`. To: entries are written into
        the folder of `target`.
        """


def copy_failed(path: str, reason: str, container_id: ContainerId) -> StepFailed:
    """The error of a copy."""
    return StepFailed("COPY_FAILED", f"cannot copy {path}: {reason}", container_id=container_id)
