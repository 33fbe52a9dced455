"""Downloads over HTTP: bounded in bytes, time and redirects. Blocks; another thread may abort it.

Nothing that a server says is trusted: what was downloaded is verified against signed data. The limits keep a server
from filling the disk or holding the update forever. Proxies come from HTTPS_PROXY, HTTP_PROXY and NO_PROXY.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from syntra.update.errors import UpdateError

REDIRECTS_MAX = 5
IDLE_SECS = 30.0
"""Longest silence of a server."""
CHUNK = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHECK = "check update.base_url and the network, and try again"


class Transfer:
    """A series of downloads with one deadline. `abort` ends the one under way."""

    def __init__(self, total_secs: float, *, idle_secs: float = IDLE_SECS) -> None:
        self._deadline = time.monotonic() + total_secs
        self._total_secs = total_secs
        self._idle_secs = idle_secs
        self._aborted = threading.Event()
        self._socket: socket.socket | None = None

    def abort(self) -> None:
        """End the download under way, and refuse further ones. Callable from any thread."""
        self._aborted.set()
        sock = self._socket
        if sock is not None:
            # A close would leave the reading thread waiting.
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def fetch(self, url: str, limit: int) -> bytes:
        """A small document, of at most `limit` bytes. Raises UpdateError."""
        data = bytearray()
        with self._response(url) as response:
            while chunk := self._read(response, url, CHUNK):
                data += chunk
                if len(data) > limit:
                    raise UpdateError(f"{_shown(url)} is larger than {limit} bytes", "check update.base_url")
        return bytes(data)

    def download(
        self, url: str, path: Path, *, size: int, sha256: str, on_bytes: Callable[[int], None] = lambda count: None
    ) -> None:
        """Write exactly `size` bytes of the hash `sha256` to the new file `path`, and fsync it.

        `on_bytes` gets the count so far. Raises UpdateError, OSError where the disk refuses. A file that is not
        complete is removed.
        """
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(handle, "wb") as file, self._response(url) as response:
                told = response.getheader("Content-Length")
                if told is not None and told != str(size):
                    raise UpdateError(f"{_shown(url)} has {told[:20]} bytes, and the manifest says {size}", _CHECK)
                digest, count = hashlib.sha256(), 0
                while chunk := self._read(response, url, CHUNK):
                    count += len(chunk)
                    if count > size:
                        raise UpdateError(f"{_shown(url)} is longer than the {size} bytes of the manifest", _CHECK)
                    digest.update(chunk)
                    file.write(chunk)
                    on_bytes(count)
                if count < size:
                    raise UpdateError(
                        f"{_shown(url)} ended after {count} of {size} bytes", "try again", "UPDATE_FAILED"
                    )
                if digest.hexdigest() != sha256:
                    raise UpdateError(
                        f"{_shown(url)} does not have the SHA-256 of the manifest", "do not use that release server"
                    )
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    @contextmanager
    def _response(self, url: str) -> Iterator[http.client.HTTPResponse]:
        for _ in range(REDIRECTS_MAX + 1):
            connection = self._connect(url)
            timer = threading.Timer(max(0.0, self._remaining()), self.abort)
            timer.daemon = True
            timer.start()
            try:
                with self._failures(url):
                    response = self._ask(connection, url)
                with response:
                    if response.status == 200:
                        yield response
                        return
                    if response.status not in _REDIRECTS:
                        raise UpdateError(f"{_shown(url)} answers {response.status}", _CHECK, "UPDATE_FAILED")
                    url = _redirected(url, response.getheader("Location") or "")
            finally:
                timer.cancel()
                self._socket = None
                connection.close()
        raise UpdateError(f"more than {REDIRECTS_MAX} redirects, the last to {_shown(url)}", _CHECK)

    def _connect(self, url: str) -> http.client.HTTPConnection:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme not in ("http", "https") or not host:
            raise UpdateError(f"{_shown(url)} is not an HTTP address", "check update.base_url")
        timeout = max(0.1, min(self._idle_secs, self._remaining()))
        proxy = urllib.request.getproxies().get(parts.scheme)
        via = urlsplit(proxy) if proxy and not urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]) else None
        address = (via.hostname or "", via.port) if via else (host, parts.port)
        if parts.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                address[0], address[1], timeout=timeout, context=ssl.create_default_context()
            )
            if via:
                connection.set_tunnel(host, parts.port)
        else:
            connection = http.client.HTTPConnection(address[0], address[1], timeout=timeout)
        return connection

    def _ask(self, connection: http.client.HTTPConnection, url: str) -> http.client.HTTPResponse:
        if self._aborted.is_set():
            raise TimeoutError
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        is_proxied = connection.host != parts.hostname and parts.scheme == "http"
        # No compression: the size in the manifest is that of the bytes on the wire.
        headers = {"User-Agent": "syntra-agent", "Accept-Encoding": "identity", "Connection": "close"}
        if is_proxied:
            headers["Host"] = parts.netloc.rpartition("@")[2]
        connection.connect()
        # The connection forgets its socket when the response begins.
        self._socket = connection.sock
        connection.request("GET", url if is_proxied else path, headers=headers)
        return connection.getresponse()

    def _read(self, response: http.client.HTTPResponse, url: str, count: int) -> bytes:
        with self._failures(url):
            # read1 returns after one read of the socket; read would wait for all bytes, however slowly they come.
            data = response.read1(count)
            if self._aborted.is_set():
                raise TimeoutError
            return data

    def _remaining(self) -> float:
        return self._deadline - time.monotonic()

    @contextmanager
    def _failures(self, url: str) -> Iterator[None]:
        try:
            yield
        except (http.client.HTTPException, OSError, ValueError) as failed:
            reason = self._reason(failed)
            raise UpdateError(f"cannot download {_shown(url)}: {reason}", _CHECK, "UPDATE_FAILED") from failed

    def _reason(self, failed: Exception) -> str:
        ended = self._aborted.is_set()
        if self._remaining() <= 0 and (ended or isinstance(failed, TimeoutError)):
            # The socket's own timeout may come before the timer.
            return f"not done within {self._total_secs:g} s"
        if ended:
            return "it was aborted"
        if isinstance(failed, TimeoutError):
            return f"no answer within {self._idle_secs:g} s"
        return getattr(failed, "strerror", None) or str(failed) or type(failed).__name__


def _redirected(url: str, location: str) -> str:
    target = urljoin(url, location)
    if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
        raise UpdateError(f"{_shown(url)} redirects away from https", "check update.base_url")
    return target


def _shown(url: str) -> str:
    """An address for people: no credentials, no query, printable, short."""
    parts = urlsplit(url)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return shown[:200] if shown.isprintable() else ascii(shown)[:200]
