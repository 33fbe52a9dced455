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
)


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
