"""An installed agent under a service manager: `boot-check` before each start, and a new start after each end."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from syntra.update import layout
from tests.e2e.agent_process import AgentProcess
from tests.engine import wait_until

RESTART_SECS = 0.2


def real_program(version: str, *, setup: str = "") -> bytes:
    """The whole agent from the sources, under another version. `setup` is Python that runs before it."""
    return (
        f"#!{sys.executable}\nimport os, sys\n{setup}\nimport syntra\nsyntra.__version__ = {version!r}\n"
        "from syntra.cli.main import main\nsys.exit(main())\n"
    ).encode()


class SupervisedAgent(AgentProcess):
    """Runs `ROOT/current/syntra-agent start` over and over. `starts` has the version of each start."""

    def __init__(self, folder: Path, *, root: Path, start_secs: float = 20.0, **options: Any) -> None:
        """An agent whose socket does not answer within `start_secs` is killed, as by TimeoutStartSec."""
        environment = {**options.pop("environment", {}), "INVOCATION_ID": "0" * 32}
        super().__init__(folder, command=[str(root / "current" / layout.PROGRAM)], environment=environment, **options)
        self.root = root
        self.starts: list[str] = []
        self._start_secs = start_secs
        self._is_stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self.launch()
        try:
            wait_until(self._answers, "the agent's socket", self._start_secs)
        except BaseException:
            self.stop()
            raise

    def launch(self) -> None:
        first = threading.Event()
        self._thread = threading.Thread(target=self._supervise, args=(first,), daemon=True)
        self._thread.start()
        assert first.wait(10)

    def stop(self, timeout: float = 40.0) -> int | None:
        self._is_stopping.set()
        status = super().stop(timeout)
        if self._thread is not None:
            self._thread.join(timeout)
        return status

    @property
    def version(self) -> str:
        """What `current` points to."""
        return layout.linked(self.root, layout.CURRENT) or ""

    def command_line(self, *words: str, timeout: float = 90.0) -> subprocess.CompletedProcess[str]:
        """Run the installed program with this agent's configuration."""
        command = [*self._command[:-1], *words]
        return subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=False, timeout=timeout
        )

    def _supervise(self, first: threading.Event) -> None:
        while not self._is_stopping.is_set():
            with self.log.open("ab") as log:
                subprocess.run([self.root / layout.BOOT_CHECK], stdout=log, stderr=log, check=True, timeout=20)
            self.starts.append(self.version)
            super().launch()
            first.set()
            self._until_ended()
            time.sleep(RESTART_SECS)

    def _until_ended(self) -> None:
        process = self.process
        assert process is not None
        deadline = time.monotonic() + self._start_secs
        is_ready = False
        while process.poll() is None:
            if not is_ready and not self._is_stopping.is_set():
                is_ready = self._is_listening()
                if not is_ready and time.monotonic() > deadline:
                    process.kill()
            time.sleep(0.05)

    def _is_listening(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(1)
                probe.connect(str(self.socket))
        except OSError:
            return False
        return True
