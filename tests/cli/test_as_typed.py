"""Sentences with the names and commands that a person types."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from syntra.cli.as_typed import as_typed, forget, over_control_plane, to_type, typed


@pytest.fixture(autouse=True)
def another_command_line() -> Iterator[None]:
    forget()
    yield
    forget()


def test_a_services_id_is_shown_as_the_name_that_was_typed() -> None:
    assert typed("svc_shop-api", "api") == "svc_shop-api"
    said = "cannot scale svc_shop-api: svc_shop-api2 has its port; see `syntra-agent logs svc_shop-api`"
    assert as_typed(said) == "cannot scale api: svc_shop-api2 has its port; see `syntra-agent logs api`"


def test_on_the_server_itself_a_command_stays_as_it_is() -> None:
    assert to_type("see `syntra-agent ps`") == "see `syntra-agent ps`"


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ([], "syntra-agent controlplane logs web --deployment d1"),
        (["--server", "web 1"], "syntra-agent controlplane logs --server 'web 1' web --deployment d1"),
    ],
)
def test_over_a_control_plane_a_command_reaches_the_same_server(options: list[str], shown: str) -> None:
    over_control_plane(["logs", "ps"], options)
    assert to_type("syntra-agent logs web --deployment d1") == shown
    for other in ("syntra-agent proxy status", "syntra-agent ps-all", "syntra-agentps", "syntra-agent --help"):
        assert to_type(other) == other, "there is no such verb over a control plane"
