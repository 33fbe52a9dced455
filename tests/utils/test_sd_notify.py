"""The datagrams systemd would get, received on real sockets."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syntra.utils.sd_notify import Notifier


@contextlib.contextmanager
def manager(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + address[1:] if address.startswith("@") else address)
        listener.settimeout(2)
        yield listener


@pytest.mark.parametrize("abstract", [False, True])
def test_every_message_has_the_documented_form(tmp_path: Path, abstract: bool) -> None:
    address = f"@syntra-{secrets.token_hex(8)}" if abstract else str(tmp_path / "notify")
    with manager(address) as listener:
        notifier = Notifier(address)
        assert notifier.active
        messages: list[tuple[Callable[[], bool], bytes]] = [
            (lambda: notifier.ready(), b"READY=1"),
            (lambda: notifier.ready("connected"), b"READY=1\nSTATUS=connected"),
            (lambda: notifier.status("engine: down"), b"STATUS=engine: down"),
            (lambda: notifier.stopping("draining"), b"STOPPING=1\nSTATUS=draining"),
            (lambda: notifier.watchdog(), b"WATCHDOG=1"),
        ]
        for send, expected in messages:
            assert send() is True
            assert listener.recv(4096) == expected


def test_a_status_cannot_smuggle_another_assignment_and_is_bounded(tmp_path: Path) -> None:
    with manager(str(tmp_path / "notify")) as listener:
        notifier = Notifier(str(tmp_path / "notify"))
        notifier.status("a\nWATCHDOG=trigger\r\n\ud800")
        assert listener.recv(4096) == b"STATUS=a WATCHDOG=trigger ?"
        notifier.status("x" * 100_000)
        assert len(listener.recv(65_536)) < 600


def test_the_environment_is_read_once_and_emptied() -> None:
    environ = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "77", "PATH": "/bin"}
    notifier = Notifier.take(environ, pid=77)
    assert environ == {"PATH": "/bin"}
    assert notifier.active and notifier.watchdog_secs == 60
    assert not Notifier.take(environ, pid=77).active


def test_the_real_environment_is_emptied_for_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/none")
    monkeypatch.setenv("WATCHDOG_USEC", "1000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert Notifier.take().watchdog_secs == 0.001
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(os.environ)


@pytest.mark.parametrize(
    ("environ", "secs"),
    [
        ({"WATCHDOG_USEC": "5000000"}, 5.0),
        ({"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "70"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_counts_only_when_it_is_meant_for_this_process(
    environ: dict[str, str], secs: float | None
) -> None:
    assert Notifier.take({"NOTIFY_SOCKET": "@x", **environ}, pid=77).watchdog_secs == secs


@pytest.mark.parametrize("address", [None, "", "@", "/", "relative", "vsock:2:1234", "/a\0b"])
def test_without_a_socket_that_can_be_used_nothing_happens(address: str | None) -> None:
    notifier = Notifier(address, watchdog_secs=5)
    assert not notifier.active and notifier.watchdog_secs is None and notifier.ready() is False


def test_errors_are_ignored_and_told_by_the_result(tmp_path: Path) -> None:
    assert Notifier(str(tmp_path / "nobody")).ready() is False
    assert Notifier("/" + "x" * 200).ready() is False
    with manager(str(tmp_path / "full")) as listener:
        notifier = Notifier(str(tmp_path / "full"))
        sent = 0
        while notifier.watchdog():  # nobody reads: the queue fills, and the sender does not wait
            sent += 1
            assert sent < 100_000
        assert listener.recv(64) == b"WATCHDOG=1"
