"""A Prometheus endpoint for tests, over real HTTP: pages by path, and every request that came."""

from __future__ import annotations

import gzip
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Endpoint:
    """Its answers can be changed at any time."""

    def __init__(self) -> None:
        self.page = b"a 1\n"
        self.content_type = TEXT
        self.status = 200
        self.gzips = False
        self.is_chunked = False
        self.delay_secs = 0.0
        self.requests: list[tuple[str, Mapping[str, str]]] = []
        self.connections = 0
        self.port = 0

    def url(self, path: str = "/metrics", scheme: str = "http") -> str:
        """The address of a page."""
        return f"{scheme}://127.0.0.1:{self.port}{path}"


@contextmanager
def endpoint(tls: ssl.SSLContext | None = None) -> Iterator[Endpoint]:
    """An endpoint on loopback, until the block ends."""
    state = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            state.connections += 1
            super().setup()

        def do_GET(self) -> None:
            state.requests.append((self.path, dict(self.headers.items())))
            time.sleep(state.delay_secs)
            body = state.page
            self.send_response(state.status)
            self.send_header("Content-Type", state.content_type)
            if state.gzips:
                body = gzip.compress(body)
                self.send_header("Content-Encoding", "gzip")
            if state.is_chunked:
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for at in range(0, len(body), 1000):
                    piece = body[at : at + 1000]
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                self.wfile.write(b"0\r\n\r\n")
                return
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: the tests look at `requests`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    # Targets that time out or refuse a page close the connection.
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
