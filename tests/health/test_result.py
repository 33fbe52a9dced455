"""Remote text in a result is short and harmless."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syntra.health.result import ProbeResult, bounded


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("one", "one"),
        ("a\r\n\r\n  \nb", "a\nb"),
        ("\x1b[31mred\x1b[0m\x00", "[31mred[0m"),
        ("1\n2\n3\n4\n5\n6", "1\n2\n3\n4\n5…"),
        ("x" * 513, "x" * 509 + "…"),
        ("a\ud800b", "ab"),
    ],
)
def test_text_is_cut_to_five_lines_and_512_bytes_without_control_characters(text: str, expected: str) -> None:
    assert bounded(text) == expected


@settings(max_examples=50)
@given(st.text(max_size=60))
def test_any_text_is_bounded(text: str) -> None:
    detail = ProbeResult(ok=False, detail=text * 20, duration_secs=0).detail
    assert len(detail.encode()) <= 512 and len(detail.splitlines()) <= 5
