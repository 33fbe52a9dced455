"""Which API version is spoken."""

from __future__ import annotations

import pytest

from syntra.runtime.docker.errors import engine_error
from syntra.runtime.docker.versions import NEWEST, agree, dotted, is_refusal, parse_version


@pytest.mark.parametrize(
    ("engine", "expected"), [("1.40", None), ("1.41", (1, 41)), ("1.47", (1, 47)), ("1.99", NEWEST), ("2.0", NEWEST)]
)
def test_the_newest_common_version_is_agreed(engine: str, expected: tuple[int, int] | None) -> None:
    parsed = parse_version(engine)
    assert parsed is not None
    assert agree(parsed) == expected
    assert dotted(parsed) == engine


@pytest.mark.parametrize("text", ["", "1", "v1.41", "1.41.0", "a.b"])
def test_what_is_no_version_is_none(text: str) -> None:
    assert parse_version(text) is None


def test_a_refusal_is_told_from_other_bad_requests() -> None:
    old = "client version 1.24 is too old. Minimum supported API version is 1.44"
    new = "client version 1.52 is too new. Maximum supported API version is 1.41"
    assert is_refusal(engine_error(400, old, method="GET", path="/info"))
    assert is_refusal(engine_error(400, new, method="GET", path="/info"))
    assert not is_refusal(engine_error(400, "invalid reference format", method="GET", path="/info"))
    assert not is_refusal(engine_error(500, old, method="GET", path="/info"))
