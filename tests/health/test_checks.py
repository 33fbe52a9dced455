"""Checks refuse what could not be asked, or could be abused."""

from __future__ import annotations

import pytest

from syntra.health.checks import CheckTiming, ExecCheck, HttpCheck, TcpCheck
from syntra.utils.errors import AgentError


@pytest.mark.parametrize("path", ["/", "/up", "/health?full=1&x=%20", "//twice", "/a/../b"])
def test_a_path_that_can_stand_on_a_request_line_is_taken(path: str) -> None:
    assert HttpCheck(path=path, port=80).path == path


@pytest.mark.parametrize(
    "path",
    ["", "up", "http://169.254.169.254/", "/a b", "/a\r\nX: y", "/a\n", "/\t", "/ü", "/a#b", "/\x7f", "/" + "a" * 2048],
)
def test_any_other_path_is_refused(path: str) -> None:
    with pytest.raises(AgentError, match="path"):
        HttpCheck(path=path, port=80)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_outside_the_range_is_refused(port: int) -> None:
    with pytest.raises(AgentError, match="port"):
        TcpCheck(port=port)
    with pytest.raises(AgentError, match="port"):
        HttpCheck(path="/", port=port)


@pytest.mark.parametrize(
    "header",
    [
        ("X-A", "b\r\nX-C: d"),
        ("X-A\r\nX-C", "d"),
        ("X A", "b"),
        ("", "b"),
        ("Connection", "keep-alive"),
        ("content-length", "5"),
        ("Transfer-Encoding", "chunked"),
        ("X-A", "ü"),
    ],
)
def test_a_header_that_would_change_the_request_is_refused(header: tuple[str, str]) -> None:
    with pytest.raises(AgentError, match="header"):
        HttpCheck(path="/", port=80, headers=(header,))


def test_too_many_or_too_long_headers_are_refused() -> None:
    for headers in (tuple(("X-A", "b") for _ in range(33)), (("X-A", "b" * 9000),)):
        with pytest.raises(AgentError, match="header"):
            HttpCheck(path="/", port=80, headers=headers)


def test_header_values_and_commands_do_not_show_in_reprs() -> None:
    check = HttpCheck(path="/", port=80, headers=(("Authorization", "Bearer hush-hush"),))
    assert "hush" not in repr(check)
    assert "hush" not in repr(ExecCheck(argv=("probe", "--password=hush-hush")))


@pytest.mark.parametrize("argv", [(), ("",), ("a", "b\0c")])
def test_a_command_that_cannot_be_run_is_refused(argv: tuple[str, ...]) -> None:
    with pytest.raises(AgentError, match="command"):
        ExecCheck(argv=argv)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("interval_secs", 0.0),
        ("interval_secs", float("inf")),
        ("timeout_secs", -1.0),
        ("timeout_secs", float("nan")),
        ("retries", 0),
        ("start_period_secs", -0.1),
    ],
)
def test_a_rhythm_that_cannot_be_kept_is_refused(name: str, value: float) -> None:
    good: dict[str, float] = {"interval_secs": 1, "timeout_secs": 1, "retries": 1, "start_period_secs": 0}
    with pytest.raises(AgentError, match=name):
        CheckTiming(**{**good, name: value})  # type: ignore[arg-type]  # one field is wrong on purpose
