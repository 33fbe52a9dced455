"""A registry that has a limit: in front of a real one, it answers 429 to questions about manifests while it is told to.

The answer is that of the large public registries: a `Retry-After`, and an error as the distribution specification has
it ("Error codes").
"""

from __future__ import annotations

import http.client
import http.server
import json
import threading
from types import TracebackType
from typing import Self

RETRY_AFTER_SECS = 2
SAID = "You have reached your pull rate limit."


class LimitedRegistry(http.server.ThreadingHTTPServer):
    """On loopback, so that engines take plain HTTP; a context manager. `refusals` counts the answers of 429."""

    daemon_threads = True

    def __init__(self, behind: str, *, limited: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = behind
        self.limited = limited
        self.refusals = 0
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="limited registry")

    @property
    def address(self) -> str:
        """`127.0.0.1:PORT`, as it stands in image references."""
        return f"127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        registry = self.server
        assert isinstance(registry, LimitedRegistry)
        if registry.limited and "/manifests/" in self.path:
            registry.refusals += 1
            body = json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": SAID}]}).encode()
            self._answer(429, {"Content-Type": "application/json", "Retry-After": str(RETRY_AFTER_SECS)}, body)
            return
        connection = http.client.HTTPConnection(registry.behind, timeout=30)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            connection.request(self.command, self.path, headers=headers)
            answer = connection.getresponse()
            kept = {n: v for n, v in answer.getheaders() if n.lower() not in ("content-length", "transfer-encoding")}
            length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            self._answer(answer.status, kept, answer.read(), length)
        finally:
            connection.close()

    do_HEAD = do_GET

    def _answer(self, status: int, headers: dict[str, str], body: bytes, length: str | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return
