"""Runs an agent as a separate process, with its own data directory and socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parents[1]
SOURCE = (sys.executable, "-m", "syntra")
BINARY = ROOT / "dist/syntra-agent"
START_SECS = 60.0
STOP_SECS = 30.0


class AgentProcess:
    """Use as a context manager: `__enter__` returns when the agent's socket accepts connections; `__exit__` stops it.

    `config` is text to add to the configuration file; keys without a section come first.
    """

    def __init__(self, folder: Path, *, config: str = "", command: Sequence[str] = SOURCE) -> None:
        self.folder = folder
        self.socket = folder / "agent.sock"
        self._config = config
        self._command = tuple(command)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The pid of the started process; a compiled binary may have started child processes."""
        assert self._process is not None, "only a started agent has a pid"
        return self._process.pid

    def spawn(self) -> None:
        """Start the process and return at once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "agent.toml"
        path.write_text(f'data_dir = "{self.folder / "data"}"\nsocket = "{self.socket}"\n{self._config}')
        path.chmod(0o600)
        with (self.folder / "agent.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, "start", "--config", str(path)],
                cwd=ROOT,
                env=environment(self.folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> Self:
        self.spawn()
        deadline = time.monotonic() + START_SECS
        while not self._listens():
            if self.ended or time.monotonic() > deadline:
                raise RuntimeError(f"the agent did not start:\n{self.log()}")
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def _listens(self) -> bool:
        # The path exists a moment before the socket listens.
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.socket))
            except OSError:
                return False
        return True

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process is None or self._process.poll() is not None

    def end(self) -> None:
        """SIGTERM, then SIGKILL if it does not end."""
        process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def log(self) -> str:
        """The last lines of the agent's log."""
        return "\n".join((self.folder / "agent.log").read_text(errors="replace").splitlines()[-20:])


def environment(cache: Path) -> Mapping[str, str]:
    """This environment without the agent's variables; a compiled binary unpacks below `cache`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SYNTRA_")}
    # An installed agent has its bytecode; without it, most of a start is compiling.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept | {"XDG_CACHE_HOME": str(cache / "cache")}
