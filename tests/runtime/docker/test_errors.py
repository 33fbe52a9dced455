"""Errors are sentences, bounded, and typed by status."""

from __future__ import annotations

import pytest

from syntra.runtime.docker.errors import (
    BadParameter,
    Conflict,
    EngineError,
    EngineUnreachable,
    NotFound,
    clip,
    engine_error,
    translated,
)
from syntra.runtime.errors import NETWORK_GONE, StepFailed


@pytest.mark.parametrize(
    ("status", "kind"), [(400, BadParameter), (404, NotFound), (409, Conflict), (500, EngineError), (301, EngineError)]
)
def test_a_status_has_its_class(status: int, kind: type[EngineError]) -> None:
    error = engine_error(status, "words", method="POST", path="/containers/x/start")
    assert type(error) is kind
    assert str(error) == f"cannot POST /containers/x/start: the engine says {status} words"


def test_foreign_text_is_cut_to_512_bytes_and_5_lines() -> None:
    assert clip("1\n2\n3\n4\n5\n6") == "1\n2\n3\n4\n5"
    assert len(clip("☃" * 1000).encode()) <= 512


def test_a_refused_socket_names_the_remedy() -> None:
    assert "docker group" in str(EngineUnreachable("/a.sock", "permission denied"))
    assert "is running" in str(EngineUnreachable("/a.sock", "connection refused"))


@pytest.mark.parametrize(
    ("status", "message", "code", "told"),
    [
        (404, "network 6f36619e91e0 not found", "START_FAILED", NETWORK_GONE),
        (404, "failed to set up container networking: network 6f3 not found", "START_FAILED", NETWORK_GONE),
        (500, "Cannot restart container 4c03: network 6f36619e91e0 not found", "RESTART_FAILED", NETWORK_GONE),
        (404, "No such container: 4c03", "START_FAILED", "CONTAINER_NOT_FOUND"),
        (404, "network syntra-shop not found", "NETWORK_FAILED", "NETWORK_FAILED"),
        (500, "driver failed programming external connectivity", "START_FAILED", "START_FAILED"),
    ],
)
def test_a_start_without_its_network_has_a_code_of_its_own(status: int, message: str, code: str, told: str) -> None:
    with pytest.raises(StepFailed) as caught, translated(code):
        raise engine_error(status, message, method="POST", path="/containers/x/start")
    assert caught.value.code == told
