"""What a Traefik says of itself, and what others say in its place."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from syntra.networking.errors import ProxyUnreachable
from syntra.networking.proxy_info import ProxyInfo, ProxyVersion
from tests.networking.real_traefik import RealTraefik, free_ports


@contextmanager
def answering(body: bytes) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


async def test_a_real_traefik_tells(tmp_path: Path) -> None:
    with RealTraefik(tmp_path) as traefik:
        info = ProxyInfo(traefik.api_url)
        version = await info.version()
        assert version.version
        assert version.since.startswith("20")
        assert await info.entrypoints() == {
            "web": f"127.0.0.1:{traefik.web}",
            "websecure": f"127.0.0.1:{traefik.websecure}",
            "traefik": f"127.0.0.1:{traefik.internal}",
        }


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"Version": 3}', b"null", b"hello"])
async def test_what_is_no_traefik_is_not_taken_for_one(body: bytes) -> None:
    with answering(body) as url, pytest.raises(ProxyUnreachable, match=url):
        await ProxyInfo(url).version()


async def test_a_version_without_a_time_is_a_version() -> None:
    with answering(b'{"Version": "3.9", "startDate": 5}') as url:
        assert await ProxyInfo(url).version() == ProxyVersion(version="3.9", since="")


async def test_nobody_there_is_said() -> None:
    [port] = free_ports(1)
    with pytest.raises(ProxyUnreachable):
        await ProxyInfo(f"http://127.0.0.1:{port}").version()
