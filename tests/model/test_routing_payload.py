"""Routing: what a `networking` section may ask for, and what stays text whatever it holds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.model.errors import InvalidField
from syntra.model.fields import Fields
from syntra.model.routing_payload import header_problem, is_path_prefix, parse_routing, read_domains, render_routing
from syntra.model.spec import RateLimit, Routing
from syntra.model.spec_payload import parse_deployment
from tests.model.samples import current_payload, placed, quick, routings


def parsed(**networking: Any) -> Routing:
    return parse_routing(Fields(networking, "networking"))


def test_without_a_word_of_it_routing_is_as_by_default() -> None:
    assert parse_routing(None) == parsed() == parsed(path_prefix="/", response_headers={}) == Routing()
    assert render_routing(Routing()) == {}


@quick
@given(routings())
def test_a_rendered_routing_reads_back_as_it_was(routing: Routing) -> None:
    assert parse_routing(Fields(json.loads(json.dumps(render_routing(routing))))) == routing


@pytest.mark.parametrize(("written", "prefix"), [("/api", "/api"), ("/api/", "/api"), ("/a/b:c@d", "/a/b:c@d")])
def test_a_prefix_has_one_spelling(written: str, prefix: str) -> None:
    assert parsed(path_prefix=written).path_prefix == prefix


@pytest.mark.parametrize(
    "prefix",
    [
        *("", "/", "api", "//", "/a//b", "/a/", "/.", "/..", "/a/../b", "/a/./b", "/a b", "/a\n", "/a\x00", "/é"),
        *(
            "/a`",
            "/a`) || Host(`b.example",
            "/{{",
            '/{{ env "HOME" }}',
            "/a'b",
            '/a"b',
            "/a\\b",
            "/a%2fb",
            "/a?b",
            "/a#b",
        ),
        "/" + "a" * 255,
    ],
)
def test_what_is_no_prefix_is_refused(prefix: str) -> None:
    assert not is_path_prefix(prefix)


def test_stripping_needs_something_to_strip() -> None:
    with pytest.raises(InvalidField, match=r"^networking\.strip_prefix: needs a path_prefix"):
        parsed(strip_prefix=True)


def test_a_burst_is_the_average_unless_it_is_given() -> None:
    assert parsed(rate_limit={"average": 5}).rate_limit == RateLimit(average=5, burst=5)


def test_headers_are_kept_in_the_order_of_their_names() -> None:
    assert parsed(response_headers={"X-B": "2", "X-A": "1"}).response_headers == (("X-A", "1"), ("X-B", "2"))


@pytest.mark.parametrize("name", ["", "a b", "a:", "X\r\n", "X`", "{{", "é", "x" * 101, "-x"])
def test_what_is_no_header_name_is_refused(name: str) -> None:
    assert header_problem(name, "x") is not None


@pytest.mark.parametrize("name", ["Connection", "transfer-encoding", "CONTENT-LENGTH", "Upgrade"])
def test_headers_that_frame_a_response_are_refused(name: str) -> None:
    assert header_problem(name, "x") == f"{name} is the proxy's own to set"


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: x", "a\n", "\x00", "\x7f", "é", '{{ env "SECRET" }}', "a" * 4097])
def test_a_header_value_that_would_not_stay_text_is_refused_and_not_repeated(value: str) -> None:
    problem = header_problem("X-A", value)
    assert problem is not None
    assert "SECRET" not in problem
    assert problem.isprintable()


def test_more_headers_than_anyone_needs_are_refused() -> None:
    with pytest.raises(InvalidField, match="more than 50"):
        parsed(response_headers={f"X-{n}": "" for n in range(51)})


def test_a_domain_that_is_written_twice_counts_once() -> None:
    assert read_domains(Fields({"domains": ["b.example", "A.example", "B.Example"]})) == ("b.example", "a.example")


def test_the_flat_shape_has_no_routing() -> None:
    payload = placed(current_payload(), "priority", "high")
    networking = payload.pop("networking")
    flat = parse_deployment(Fields({**payload, **networking, "path_prefix": 5, "priority": "high"}))
    assert flat.spec.domains == ("api.example", "*.api.example")
    assert flat.spec.routing == Routing()


@quick
@given(st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=3))
def test_any_headers_are_taken_as_text_or_refused(headers: dict[str, str]) -> None:
    try:
        routing = parsed(response_headers=headers)
    except InvalidField:
        return
    for name, value in routing.response_headers:
        assert (name + value).isascii()
        assert (name + value).isprintable()
        assert "{{" not in value
