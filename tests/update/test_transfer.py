"""Downloads from a server that is slow, endless, silent or sends elsewhere."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import trustme

from syntra.update.errors import UpdateError
from syntra.update.transfer import REDIRECTS_MAX, Transfer
from tests.update.release_site import ReleaseSite


def redirect(to: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.end_headers()

    return answer


def drip(handler: BaseHTTPRequestHandler) -> None:
    """One byte at a time, never silent for long, never done."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.02)


def drip_header(handler: BaseHTTPRequestHandler) -> None:
    while True:
        handler.wfile.write(b"H")
        time.sleep(0.02)


def mute(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.recv(1)


def chunked(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")


def test_redirects_are_followed_up_to_a_limit(site: ReleaseSite) -> None:
    site.files["/end"] = b"here"
    for hop in range(REDIRECTS_MAX):
        site.answers[f"/{hop}"] = redirect(f"/{hop + 1}" if hop + 1 < REDIRECTS_MAX else f"{site.url}/end")
    assert Transfer(10).fetch(f"{site.url}/0", 10) == b"here"
    site.answers["/loop"] = redirect("/loop")
    with pytest.raises(UpdateError, match="more than 5 redirects"):
        Transfer(10).fetch(f"{site.url}/loop", 10)


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "", "gopher://x", "//"])
def test_a_redirect_to_anything_but_http_is_refused(site: ReleaseSite, to: str) -> None:
    site.answers["/x"] = redirect(to)
    with pytest.raises(UpdateError):
        Transfer(10).fetch(f"{site.url}/x", 10)


def test_a_redirect_from_https_to_http_is_refused(
    site: ReleaseSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    site.files["/x"] = b"plain"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with context.wrap_socket(connection, server_side=True) as secure:
                secure.recv(4096)
                secure.sendall(f"HTTP/1.1 302 Found\r\nLocation: {site.url}/x\r\n\r\n".encode())

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(UpdateError, match="redirects away from https"):
            Transfer(10).fetch(f"https://localhost:{listener.getsockname()[1]}/", 10)
        thread.join(10)
    assert site.asked == []


@pytest.mark.parametrize("answer", [drip, drip_header, mute], ids=lambda answer: answer.__name__)
def test_a_slow_server_cannot_hold_the_update(
    site: ReleaseSite, answer: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    site.answers["/x"] = answer
    began = time.monotonic()
    with pytest.raises(UpdateError, match=r"not done within 1 s"):
        Transfer(1.0).fetch(f"{site.url}/x", 10**9)
    assert time.monotonic() - began < 20


def test_a_silent_server_is_given_up(site: ReleaseSite) -> None:
    site.answers["/x"] = mute
    with pytest.raises(UpdateError, match=r"no answer within 0\.3 s"):
        Transfer(60.0, idle_secs=0.3).fetch(f"{site.url}/x", 10)


def test_another_thread_can_end_a_download(site: ReleaseSite, tmp_path: Path) -> None:
    site.answers["/x"] = drip
    transfer = Transfer(60.0)
    threading.Timer(0.3, transfer.abort).start()
    with pytest.raises(UpdateError, match="it was aborted"):
        transfer.download(f"{site.url}/x", tmp_path / "x", size=10**6, sha256="")
    assert not (tmp_path / "x").exists()
    with pytest.raises(UpdateError, match="it was aborted"):
        transfer.fetch(f"{site.url}/x", 10)


def test_a_body_in_chunks_is_counted_like_any_other(site: ReleaseSite, tmp_path: Path) -> None:
    site.answers["/x"] = chunked
    digest = hashlib.sha256(b"abcde").hexdigest()
    Transfer(10).download(f"{site.url}/x", tmp_path / "x", size=5, sha256=digest)
    assert (tmp_path / "x").read_bytes() == b"abcde"
    with pytest.raises(UpdateError, match="is longer than the 4 bytes"):
        Transfer(10).download(f"{site.url}/x", tmp_path / "y", size=4, sha256=digest)
    assert not (tmp_path / "y").exists()


def test_an_existing_file_or_link_is_never_written(site: ReleaseSite, tmp_path: Path) -> None:
    site.files["/x"] = b"data"
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        Transfer(10).download(f"{site.url}/x", tmp_path / "link", size=4, sha256="")
    assert not (tmp_path / "elsewhere").exists()


def test_a_refused_connection_and_a_wrong_status_say_what_to_check(site: ReleaseSite) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(UpdateError, match=r"cannot download http://127\.0\.0\.1:\d+/: Connection refused; check"):
        Transfer(10).fetch(f"http://127.0.0.1:{port}/", 10)
    with pytest.raises(UpdateError, match=r"answers 404; check update\.base_url"):
        Transfer(10).fetch(f"{site.url}/missing?token=secret", 10)


def test_credentials_in_an_address_are_not_shown(site: ReleaseSite) -> None:
    with pytest.raises(UpdateError) as caught:
        Transfer(10).fetch(site.url.replace("//", "//user:hunter2@") + "/missing?key=hunter2", 10)
    assert "hunter2" not in str(caught.value)
