"""Headers as OTEL_EXPORTER_OTLP_HEADERS has them."""

from __future__ import annotations

import pytest

from syntra.telemetry.shipping.headers import parse_headers, redactor_of
from syntra.utils.errors import AgentError

CANARY = "canary-51d0"


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("", ()),
        (" , ,", ()),
        ("api-key=abc", (("api-key", "abc"),)),
        ("a=1,b=2", (("a", "1"), ("b", "2"))),
        (" A = 1 ,\tB =2 ", (("a", "1"), ("b", "2"))),
        ("authorization=Basic%20dXNlcjpwYXNz%3D%3D", (("authorization", "Basic dXNlcjpwYXNz=="),)),
        ("authorization=Bearer x=y", (("authorization", "Bearer x=y"),)),
        ("a=1%2C2", (("a", "1,2"),)),
        ("a=1,A=2", (("a", "2"),)),
        ("a=", (("a", ""),)),
        ("a=b+c", (("a", "b+c"),)),
    ],
)
def test_headers_are_read_as_the_specification_says(text: str, headers: tuple[tuple[str, str], ...]) -> None:
    assert parse_headers(text) == headers


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (CANARY, "entry 1 is not name=value"),
        (f"a=1,{CANARY} x", "entry 2 is not name=value"),
        (f"={CANARY}", "entry 1 is not name=value"),
        (f"na me={CANARY}", "entry 1 is not name=value"),
        (f"a={CANARY}%0d%0aInjected: 1", "the value of a contains characters"),
        (f"a={CANARY}\x00", "the value of a contains characters"),
        (f"a={CANARY}%ff", "the value of a is not UTF-8"),
        (f"Content-Type={CANARY}", "the agent sets content-type itself"),
        (f"grpc-timeout={CANARY}", "the agent sets grpc-timeout itself"),
        (f"host={CANARY}", "the agent sets host itself"),
    ],
)
def test_what_is_wrong_is_said_without_the_value(text: str, reason: str) -> None:
    with pytest.raises(AgentError, match=reason) as caught:
        parse_headers(text)
    assert CANARY not in str(caught.value)


def test_values_and_their_words_are_removed_from_texts() -> None:
    redactor = redactor_of((("authorization", f"Bearer {CANARY}"),))
    assert CANARY not in redactor.clean(f"token {CANARY} of 'Bearer {CANARY}'")
