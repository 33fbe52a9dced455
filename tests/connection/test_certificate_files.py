"""Client certificates on disk: a pair is whole after a kill at any call of the operating system."""

from __future__ import annotations

import os
import signal
import ssl
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from syntra.connection.certificate_files import CertificateFiles, CertificateUnusable, new_request, pair_of
from syntra.connection.enrolment import Slot
from syntra.controlplane.authority import Authority

KILLED_AT = """
import os, signal, sys
from pathlib import Path
from cryptography import x509  # now, so that its import is not counted
from syntra.connection.certificate_files import CertificateFiles
files = CertificateFiles(Path(sys.argv[1]), endpoint="wss://a/agent/ws", server_id="srv_1")
pair = Path(sys.argv[2]).read_bytes()
left = int(sys.argv[3])
def call(frame, event, function):
    global left
    if event == "c_call" and getattr(function, "__module__", "") == "posix":
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.setprofile(call)
files.write_candidate(pair)
files.accept_candidate()
sys.setprofile(None)
"""


def files_in(folder: Path, endpoint: str = "wss://a/agent/ws", server_id: str = "srv_1") -> CertificateFiles:
    return CertificateFiles(folder, endpoint=endpoint, server_id=server_id)


def a_pair(folder: Path, lifetime: timedelta = timedelta(days=90)) -> bytes:
    request, now = new_request("srv_1"), datetime.now(UTC)
    issued = Authority.open_or_create(folder / "authority.pem", now).issue(
        request.request_pem, "srv_1", now=now, lifetime=lifetime
    )
    return pair_of(request, issued.pem, 0.0)


def test_a_candidate_replaces_the_current_pair_in_one_step(tmp_path: Path) -> None:
    files = files_in(tmp_path / "certificates")
    assert files.load() == {}
    first = files.write_candidate(a_pair(tmp_path))
    assert files.load() == {Slot.CANDIDATE: first}
    files.accept_candidate()
    second = files.write_candidate(a_pair(tmp_path))
    assert files.load() == {Slot.CURRENT: first, Slot.CANDIDATE: second}
    assert stat.S_IMODE(files.path(Slot.CANDIDATE).stat().st_mode) == 0o600
    files.drop_candidate()
    files.drop_candidate()
    assert files.load() == {Slot.CURRENT: first}


def test_a_kill_at_every_call_leaves_whole_pairs(tmp_path: Path) -> None:
    old, new = a_pair(tmp_path), a_pair(tmp_path)
    (tmp_path / "new.pem").write_bytes(new)
    outcomes = set()
    for number in range(1, 60):
        folder = tmp_path / str(number)
        files = files_in(folder)
        before = files.write_candidate(old)
        files.accept_candidate()
        ended = subprocess.run(
            [sys.executable, "-c", KILLED_AT, str(folder), str(tmp_path / "new.pem"), str(number)], check=False
        )
        found = files.load()
        for slot in found:
            ssl.create_default_context().load_cert_chain(files.path(slot))  # raises for a key of another certificate
        assert Slot.CURRENT in found
        assert [name for name in os.listdir(folder) if name.endswith(".tmp")] == []
        outcomes.add((found[Slot.CURRENT] == before, Slot.CANDIDATE in found))
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL
    else:
        raise AssertionError("the last kill must come after the last call")
    assert outcomes == {(True, False), (True, True), (False, False)}


@pytest.mark.parametrize(("endpoint", "server_id"), [("wss://b/agent/ws", "srv_1"), ("wss://a/agent/ws", "srv_12")])
def test_a_pair_for_another_control_plane_or_server_is_not_used(tmp_path: Path, endpoint: str, server_id: str) -> None:
    folder = tmp_path / "certificates"
    files = files_in(folder)
    files.write_candidate(a_pair(tmp_path))
    files.accept_candidate()
    files.write_candidate(a_pair(tmp_path))
    assert files_in(folder, endpoint, server_id).load() == {}
    assert files.load().keys() == {Slot.CURRENT}


def test_an_unusable_candidate_is_removed(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    files.path(Slot.CANDIDATE).write_text("endpoint wss://a/agent/ws\nserver srv_1\nno PEM")
    assert files.load() == {}
    assert not files.path(Slot.CANDIDATE).exists()


def test_a_certificate_for_another_key_an_ended_one_and_no_certificate_are_refused(tmp_path: Path) -> None:
    request, other, now = new_request("srv_1"), new_request("srv_1"), datetime.now(UTC)
    issued = Authority.open_or_create(tmp_path / "authority.pem", now).issue(
        request.request_pem, "srv_1", now=now, lifetime=timedelta(days=1)
    )
    assert "PRIVATE KEY" not in repr(request)
    with pytest.raises(CertificateUnusable, match="not for the key of this request"):
        pair_of(other, issued.pem, 0.0)
    with pytest.raises(CertificateUnusable, match="it has ended already"):
        pair_of(request, issued.pem, (now + timedelta(days=2)).timestamp())
    with pytest.raises(CertificateUnusable, match="not valid PEM"):
        pair_of(request, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 0.0)
    with pytest.raises(CertificateUnusable, match="has a private key in it"):
        pair_of(request, pair_of(request, issued.pem, 0.0).decode(), 0.0)
