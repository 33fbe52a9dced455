"""The proxy's configuration file, replaced whole and only when it says something new."""

from __future__ import annotations

import os
from pathlib import Path

from syntra.utils import atomic_file
from syntra.utils.errors import AgentError

FILE_NAME = "syntra.yml"
_STAGING = ".syntra-staging"


class FileWriter:
    """One file in a directory that the proxy watches.

    The new content is made in a folder below and moved up: Traefik watches the directory but not the folders in it, so
    it sees one event. A file written beside the real one gives several, of which Traefik takes the first, which still
    shows the old content, and looks again only after its throttle (2 s by default).
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.path = directory / FILE_NAME

    def write(self, data: bytes) -> bool:
        """Make `data` the file's content; False when it was so already. Blocks on the disk: call it from a thread.

        The directory is made with mode 0755 and the file has 0644: a proxy in a container reads it as another user.
        Raises AgentError; whatever fails, the old file stays whole.
        """
        try:
            if self.path.read_bytes() == data:
                return False
        except OSError:
            # Absent, unreadable, a directory: writing will do or will say why it cannot.
            pass
        staging = self._directory / _STAGING
        self._make(self._directory, 0o755)
        self._make(staging, 0o700)
        staged = staging / "next"
        # Left by an agent that was killed between the two steps, or written by one that was.
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
        """The directory and its parents; the mode is given to what is made here, whatever the umask."""
        try:
            missing = [path for path in (directory, *directory.parents) if not path.exists()]
            for path in reversed(missing):
                path.mkdir(exist_ok=True)
                path.chmod(mode)
        except OSError as exc:
            raise AgentError(
                f"cannot make {directory}: {exc.strerror or exc}; check the path and the rights of the agent's user"
            ) from exc
