"""Ids are checked as the container names, labels and rows they become."""

from __future__ import annotations

import pytest

from syntra.model import ids
from syntra.model.errors import InvalidField


@pytest.mark.parametrize("text", ["a", "svc_123", "A.b-c_9", "0", "x" * 100])
def test_what_docker_takes_in_a_name_is_an_id(text: str) -> None:
    assert ids.service_id("service_id", text) == text
    assert ids.deployment_id("deployment_id", text) == text


@pytest.mark.parametrize("text", ["", "_a", ".a", "-a", "a b", "a/b", "a:b", "ä", "a\n", "x" * 101, "a\0", "²"])
def test_anything_else_is_refused_by_the_name_of_its_field(text: str) -> None:
    for check in (ids.service_id, ids.deployment_id):
        with pytest.raises(InvalidField) as refused:
            check("service.id", text)
        assert refused.value.field == "service.id"
        assert refused.value.code == "INVALID_PAYLOAD"


@pytest.mark.parametrize("text", ["1", "req/1:a=b", "{8c1f}", "~" * 200])
def test_a_request_id_is_any_printable_ascii(text: str) -> None:
    assert ids.request_id("id", text) == text


@pytest.mark.parametrize("text", ["", " ", "a b", "é", "a\n", "~" * 201, "\x7f"])
def test_a_request_id_without_printable_ascii_is_refused(text: str) -> None:
    with pytest.raises(InvalidField, match=r"^request_id: is not an id"):
        ids.request_id("request_id", text)
