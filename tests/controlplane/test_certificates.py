"""The records of issued certificates."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from syntra.controlplane import certificates
from syntra.controlplane.authority import Issued
from syntra.controlplane.certificates import KEPT_PER_SERVER
from syntra.controlplane.settings import ControlPlaneSettings, Limits
from syntra.controlplane.store import Store
from syntra.utils.errors import AgentError

NOW, LATER = "2026-01-02T03:04:05.000Z", "2026-04-02T03:04:05.000Z"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "controlplane.db", Limits())
    yield opened
    opened.close()


def add(store: Store, number: int, server_id: str = "srv_1", not_after: str = LATER, now: str = NOW) -> bytes:
    fingerprint = f"{server_id} {number}".encode()
    issued = Issued(pem="", fingerprint=fingerprint, serial=f"{number:x}", not_after=datetime.now(UTC))
    certificates.add(store, server_id, issued, not_after, now)
    return fingerprint


def serials(store: Store, server_id: str = "srv_1") -> list[str]:
    return [record.serial for record in certificates.of_server(store, server_id)]


def test_a_certificate_in_use_replaces_the_older_ones_of_its_server_only(store: Store) -> None:
    other = add(store, 1, "srv_2")
    first, second, third = (add(store, number) for number in (2, 3, 4))
    assert not certificates.is_needed(store, "srv_1", NOW)
    certificates.used(store, second, NOW)
    assert serials(store) == ["3", "4"]
    assert certificates.server_of(store, first) is None
    assert certificates.server_of(store, third) == "srv_1"
    assert certificates.server_of(store, other) == "srv_2"
    assert certificates.is_needed(store, "srv_1", NOW)
    assert not certificates.is_needed(store, "srv_2", NOW)
    assert not certificates.is_needed(store, "srv_1", LATER)
    certificates.used(store, second, LATER)
    assert certificates.of_server(store, "srv_1")[0].used_at == NOW


def test_an_agent_that_asks_again_and_again_keeps_the_certificate_in_use(store: Store) -> None:
    certificates.used(store, add(store, 1), NOW)
    for number in range(2, 40):
        add(store, number)
    assert len(serials(store)) == KEPT_PER_SERVER
    assert serials(store)[0] == "1"
    assert serials(store)[-1] == f"{39:x}"


def test_ended_records_go_and_revoking_deletes_all_of_a_server(store: Store) -> None:
    add(store, 1, not_after=NOW, now="2026-01-01T00:00:00.000Z")
    add(store, 2, "srv_2")
    add(store, 3)
    assert serials(store) == ["3"]
    assert certificates.revoke(store, "srv_1") == 1
    assert certificates.revoke(store, "srv_1") == 0
    assert (serials(store), serials(store, "srv_2")) == ([], ["2"])


def test_enrolment_needs_tls(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="cannot enrol agents: the listener has no TLS"):
        ControlPlaneSettings(data_dir=tmp_path, enrol=True)
