"""Runs a real OpenTelemetry Collector.

The program is looked for in `$SYNTRA_PEERS` (by default in the user's cache), then on PATH. Without it tests are
skipped with the reason; with `CI=true` they fail.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

START_SECS = 20.0
STOP_SECS = 10.0


def program() -> str:
    """The Collector; without one the test is skipped, or fails in CI."""
    found = find()
    if found is None:
        reason = "the OpenTelemetry Collector, `otelcol`, is neither in $SYNTRA_PEERS nor on PATH"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def find() -> str | None:
    """The Collector's path."""
    peers = Path(os.environ.get("SYNTRA_PEERS") or Path.home() / ".cache" / "syntra-peers")
    return shutil.which(peers / "otelcol") or shutil.which("otelcol")


def free_port() -> int:
    """A port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RealCollector:
    """Started on enter, when its receiver accepts connections; stopped on exit.

    `config` is YAML with GRPC_PORT, HTTP_PORT and FOLDER in it; `service.telemetry` is added.
    """

    def __init__(self, folder: Path, config: str, *, path: str) -> None:
        self.folder = folder
        self.grpc_port, self.http_port = free_port(), free_port()
        self._config = config
        self._path = path
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None, "only a started collector has a pid"
        return self._process.pid

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        replaced = {"GRPC_PORT": str(self.grpc_port), "HTTP_PORT": str(self.http_port), "FOLDER": str(self.folder)}
        text = self._config
        for name, value in replaced.items():
            text = text.replace(name, value)
        path = self.folder / "collector.yaml"
        path.write_text(text)
        with (self.folder / "collector.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._path, "--config", str(path)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECS
        while not (_accepts(self.grpc_port) and _accepts(self.http_port)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the collector did not start:\n{self.log()}")
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def log(self) -> str:
        """The last lines of its log."""
        return "\n".join((self.folder / "collector.log").read_text(errors="replace").splitlines()[-20:])


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
