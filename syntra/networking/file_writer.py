"""Writes the proxy's configuration file: atomically, and only when its content changes."""

from __future__ import annotations

import os
from pathlib import Path

from syntra.utils import atomic_file
from syntra.utils.errors import AgentError

FILE_NAME = "syntra.yml"
_STAGING = ".syntra-staging"


class FileWriter:
    """One file in a directory that the proxy watches.

    It creates the new content in a subdirectory and moves it up. Traefik does not watch subdirectories, so it sees one
    event. A temporary file beside the real one would cause several: Traefik acts on the first, which still shows the
    old content, and reads the file again only after its throttle (2 s by default).
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.path = directory / FILE_NAME

    def write(self, data: bytes) -> bool:
        """Make `data` the file's content; return False if it was already. Blocks on the disk: call it from a thread.

        Creates the directory with mode 0755 and the file with 0644: a proxy in a container reads it as another user.
        Raises AgentError; the old file then stays complete.
        """
        try:
            if self.path.read_bytes() == data:
                return False
        except OSError:
            # Missing, unreadable, or a directory: writing replaces it or reports the error.
            pass
        staging = self._directory / _STAGING
        self._make(self._directory, 0o755)
        self._make(staging, 0o700)
        staged = staging / "next"
        # Files of an agent that was killed while writing.
        for left in staging.iterdir():
            left.unlink(missing_ok=True)
        atomic_file.write(staged, data, mode=0o644)
        try:
            staged.rename(self.path)
            handle = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as exc:
            raise AgentError(f"cannot write {self.path}: {exc.strerror or exc}; check the disk and the path") from exc
        return True

    @staticmethod
    def _make(directory: Path, mode: int) -> None:
        """Create the directory and its parents; new ones get the mode, whatever the umask."""
        try:
            missing = [path for path in (directory, *directory.parents) if not path.exists()]
            for path in reversed(missing):
                path.mkdir(exist_ok=True)
                path.chmod(mode)
        except OSError as exc:
            raise AgentError(
                f"cannot make {directory}: {exc.strerror or exc}; check the path and the rights of the agent's user"
            ) from exc
