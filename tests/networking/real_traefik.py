"""A real Traefik process on loopback with a watched directory, and small servers for it to route to.

The program is looked for in `$SYNTRA_PEERS` (by default in the user's cache), then on PATH. Without it tests are
skipped with the reason; with `CI=true` they fail.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from syntra.networking.traefik import ProxySettings
from tests.networking.namespaces import connected

STARTED_WITHIN_SECS = 20.0
PLAIN = ProxySettings(entrypoints=("web",), cert_resolver="", https_redirect_entrypoint="")
"""Routers without TLS, for all that is not about TLS."""


def program() -> str:
    """The path of Traefik; skips or fails the test when there is none."""
    peers = Path(os.environ.get("SYNTRA_PEERS") or Path.home() / ".cache" / "syntra-peers")
    found = shutil.which(peers / "traefik") or shutil.which("traefik")
    if found is None:
        reason = f"Traefik is neither in {peers} nor on PATH"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: str
    cookies: tuple[str, ...] = ()


class RealTraefik:
    """Started on enter, killed on exit. `throttle` is providersThrottleDuration; None leaves Traefik's own 2 s.

    `docker` is the configuration of Traefik's Docker provider, when it is to have one, and `others` those of other
    providers by their names. `namespace` is the network that it runs in, and in which it is asked.
    """

    def __init__(
        self,
        folder: Path,
        *,
        throttle: str | None = "50ms",
        docker: Mapping[str, object] | None = None,
        others: Mapping[str, object] | None = None,
        namespace: Path | None = None,
    ) -> None:
        self.directory = folder / "dynamic"
        self._folder = folder
        self._program = program()
        self._throttle = throttle
        self._docker = docker
        self._others = others or {}
        self._namespace = namespace
        self.web, self.websecure, self.internal = free_ports(3)
        self.api_url = f"http://127.0.0.1:{self.internal}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None, "the process is not running"
        return self._process.pid

    def start(self) -> None:
        """Start the process, on the ports of before, and wait until its API answers."""
        providers: dict[str, object] = {"file": {"directory": str(self.directory), "watch": True}, **self._others}
        if self._throttle is not None:
            providers["providersThrottleDuration"] = self._throttle
        if self._docker is not None:
            providers["docker"] = dict(self._docker)
        static = {
            "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
            "entryPoints": {
                "web": {"address": f"127.0.0.1:{self.web}"},
                "websecure": {"address": f"127.0.0.1:{self.websecure}"},
                "traefik": {"address": f"127.0.0.1:{self.internal}"},
            },
            "api": {"insecure": True, "dashboard": False},
            "metrics": {"prometheus": {"addServicesLabels": True, "addRoutersLabels": True}},
            "providers": providers,
            "log": {"level": "INFO", "filePath": str(self._folder / "traefik.log")},
        }
        path = self._folder / "static.yml"
        path.write_text(json.dumps(static))
        entered = [] if self._namespace is None else ["nsenter", f"--net={self._namespace}"]
        self._process = subprocess.Popen(
            [*entered, self._program, f"--configFile={path}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + STARTED_WITHIN_SECS
        while True:
            with contextlib.suppress(OSError):
                if self.ask(self.internal, "/api/overview", host="localhost").status == 200:
                    return
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                pytest.fail(f"Traefik did not start: {self.log()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def log(self) -> str:
        path = self._folder / "traefik.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def works_with(self) -> str:
        """What it routes at this moment, as its API tells it."""
        return self.ask(self.internal, "/api/rawdata", host="localhost").body

    def get(self, host: str, path: str = "/", **headers: str) -> Answer:
        """A request to the `web` entrypoint."""
        return self.ask(self.web, path, host=host, headers=headers)

    def ask(
        self, port: int, path: str, *, host: str, headers: dict[str, str] | None = None, tls: bool = False
    ) -> Answer:
        """One request on a connection of its own. With `tls` any certificate is taken; `host` is the SNI name too."""
        raw = connected(self._namespace, ("127.0.0.1", port), 10)
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            raw = context.wrap_socket(raw, server_hostname=host)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.sock = raw
        try:
            connection.request("GET", path, headers={"Host": host, **(headers or {})})
            answer = connection.getresponse()
            body = answer.read().decode()
            return Answer(
                status=answer.status,
                headers={name.lower(): value for name, value in answer.getheaders()},
                body=body,
                cookies=tuple(answer.headers.get_all("Set-Cookie") or ()),
            )
        finally:
            connection.close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        backend = self.server
        assert isinstance(backend, Backend)
        if self.headers.get("Upgrade"):
            self.send_response(101)
            self.send_header("Upgrade", self.headers["Upgrade"])
            self.send_header("Connection", "Upgrade")
            self.end_headers()
            backend.opened.release()
            with contextlib.suppress(OSError):
                while data := self.connection.recv(1024):
                    self.connection.sendall(data)
            self.close_connection = True
            return
        if self.path == "/held":
            backend.opened.release()
            backend.release.wait(10)
        body = f"{backend.name} {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


class Backend(http.server.ThreadingHTTPServer):
    """Answers every path with its name and the path; `/held` once it is released; an upgrade becomes an echo."""

    daemon_threads = True

    def __init__(self, name: str, address: str = "127.0.0.1") -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, 0), _Handler)
        self.name = name
        self.address = address
        self.port: int = self.server_address[1]
        self.opened = threading.Semaphore(0)
        self.release = threading.Event()


@contextlib.contextmanager
def backend(name: str, address: str = "127.0.0.1") -> Iterator[Backend]:
    """A running backend."""
    server = Backend(name, address)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name=f"backend {name}")
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        thread.join()
        server.server_close()


def upgraded(traefik: RealTraefik, host: str) -> socket.socket:
    """An upgraded connection through the `web` entrypoint, open until it is closed."""
    opened = socket.create_connection(("127.0.0.1", traefik.web), timeout=10)
    opened.sendall(
        f"GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode("ascii")
    )
    head = opened.recv(4096)
    assert head.startswith(b"HTTP/1.1 101 "), head
    return opened


def free_ports(count: int) -> list[int]:
    """Ports of loopback that were free a moment ago, all different."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
