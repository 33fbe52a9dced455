"""Quoting of paths and queries."""

from __future__ import annotations

import pytest

from syntra.runtime.docker.errors import DockerError
from syntra.runtime.docker.paths import Query, encode_query, label_filter, path


def test_every_segment_is_quoted() -> None:
    assert path("images", "host:5000/shop/web@sha256:1", "json") == "/images/host%3A5000%2Fshop%2Fweb%40sha256%3A1/json"
    assert path("containers", "a b?c#d\r\n") == "/containers/a%20b%3Fc%23d%0D%0A"


@pytest.mark.parametrize("name", ["", ".", "..", "a/../b", "/a", "a/", "a//b"])
def test_a_name_that_addresses_another_resource_is_refused(name: str) -> None:
    with pytest.raises(DockerError, match="is not a name"):
        path("containers", name, "json")


def test_queries_are_encoded_with_filters_as_json() -> None:
    assert encode_query(None) == ""
    assert encode_query({"a": None}) == ""
    query: Query = {"all": True, "force": False, "t": 5, "x": "a&b", "filters": {"label": ["k=v"]}}
    assert encode_query(query) == "?all=1&force=0&t=5&x=a%26b&filters=%7B%22label%22%3A+%5B%22k%3Dv%22%5D%7D"


def test_labels_without_value_ask_for_the_name() -> None:
    assert label_filter({"a": "1", "b": None}) == ["a=1", "b"]
