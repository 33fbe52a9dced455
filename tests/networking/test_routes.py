"""The route table: its order, who claims what, and that nothing gets in that would not stay text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.model.spec import RateLimit, Routing
from syntra.networking.errors import InvalidRoute
from syntra.networking.routes import Group, RouteTable, ServiceRoute, conflict
from tests.model.samples import quick
from tests.networking.samples import INJECTIONS, endpoint, group, route


def test_tables_that_say_the_same_are_equal() -> None:
    a, b = endpoint("10.0.0.1"), endpoint("10.0.0.2")
    one = RouteTable((route("x", "b.example", "a.example", groups=(group(a, b), group(name="d0"))), route("w")))
    other = RouteTable((route("w"), route("x", "a.example", "b.example", groups=(group(name="d0"), group(b, a)))))
    assert one == other
    assert [route.service_id for route in one.routes] == ["w", "x"]


def test_a_service_has_one_route() -> None:
    with pytest.raises(InvalidRoute, match="two routes"):
        RouteTable((route("a"), route("a")))


def test_the_second_service_that_claims_a_host_is_told_the_first() -> None:
    table = RouteTable((route("a", "x.example", "y.example"), route("b", "x.example", path_prefix="/api")))
    claimed = conflict(table, route("c", "z.example", "y.example"))
    assert claimed is not None
    assert str(claimed) == "y.example belongs to service a"
    claimed = conflict(table, route("c", "x.example", path_prefix="/api"))
    assert claimed is not None
    assert (claimed.service_id, claimed.domain, claimed.path_prefix) == ("b", "x.example", "/api")


@pytest.mark.parametrize(
    "candidate",
    [
        route("a", "x.example"),  # its own
        route("c", "x.example", path_prefix="/api"),
        route("c", "*.example.com", "www.x.example"),
        route("c"),
    ],
)
def test_what_is_claimed_by_nobody_else_is_free(candidate: ServiceRoute) -> None:
    assert conflict(RouteTable((route("a", "x.example"), route("b", "www.example.com"))), candidate) is None


@pytest.mark.parametrize("bad", INJECTIONS)
def test_what_would_leave_its_place_is_refused_in_every_field(bad: str) -> None:
    with pytest.raises(InvalidRoute):
        route("a", bad)
    with pytest.raises(InvalidRoute):
        route(bad)
    with pytest.raises(InvalidRoute):
        group(name=bad)
    with pytest.raises(InvalidRoute):
        endpoint(bad)
    with pytest.raises(InvalidRoute):
        route("a", path_prefix=bad or "a")
    with pytest.raises(InvalidRoute):
        route("a", response_headers=((bad, "x"),))


@pytest.mark.parametrize("value", ["{{ env }}", "a\nb", "a\r\nb", "\x00", "é"])
def test_a_header_value_that_would_not_stay_text_is_refused(value: str) -> None:
    with pytest.raises(InvalidRoute):
        route("a", response_headers=(("X", value),))


@pytest.mark.parametrize(
    "routing", [{"priority": 0}, {"priority": 10**7}, {"rate_limit": RateLimit(average=0, burst=1)}]
)
def test_numbers_out_of_range_are_refused(routing: dict[str, Any]) -> None:
    with pytest.raises(InvalidRoute):
        route("a", **routing)


@pytest.mark.parametrize(
    "address", ["localhost", "10.0.0", "010.0.0.1", "::ffff:1%eth0", "FE80::1", "10.0.0.1/8", "::0"]
)
def test_an_address_has_one_spelling_and_is_no_name(address: str) -> None:
    with pytest.raises(InvalidRoute, match="is not an IP address"):
        endpoint(address)


def test_ports_weights_and_names_are_checked() -> None:
    for port in (0, 65536, -1):
        with pytest.raises(InvalidRoute, match="is not a port"):
            endpoint(port=port)
    with pytest.raises(InvalidRoute, match="weight -1"):
        group(weight=-1)
    with pytest.raises(InvalidRoute, match="two of its groups"):
        route("a", groups=(group(), group()))


@quick
@given(st.text(max_size=30))
def test_any_text_is_an_id_or_refused(text: str) -> None:
    try:
        found = Group(name=text, weight=1, endpoints=())
    except InvalidRoute as error:
        assert str(error).isprintable()
        return
    assert found.name.isascii()


def test_a_route_knows_nothing_by_default() -> None:
    assert route("a").routing == Routing()
