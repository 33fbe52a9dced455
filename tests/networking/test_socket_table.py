"""The kernel's list of sockets: read whole, cut anywhere, in both byte orders; counted as clients see it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.networking.socket_table import Socket, open_from_outside, parse
from tests.model.samples import quick

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
TAIL = " 00000000:00000000 00:00000000 00000000     0        0 12345 1 0000000000000000 100 0 0 10 0\n"
V4 = HEAD + "".join(
    f"   {n}: {ends}{TAIL}"
    for n, ends in enumerate(
        (
            "00000000:1F90 00000000:0000 0A",  # listens on 8080
            "050011AC:1F90 010011AC:C350 01",  # 172.17.0.5:8080 from 172.17.0.1:50000, open
            "050011AC:1F90 010011AC:C351 06",  # the same, TIME_WAIT
            "050011AC:1F90 010011AC:C352 08",  # the same, CLOSE_WAIT
            "0100007F:1F90 0100007F:C353 01",  # from inside
            "010011AC:C354 060011AC:0050 02",  # to 172.17.0.6:80, being opened
        )
    )
)
V6 = HEAD + "".join(
    f"   {n}: {ends}{TAIL}"
    for n, ends in enumerate(
        (
            "0000000000000000FFFF0000050011AC:1F90 0000000000000000FFFF0000010011AC:C350 01",  # IPv4 in IPv6
            "000000FD000000000000000002000000:1F90 000000FD000000000000000001000000:C350 01",  # fd00::2 from fd00::1
            "00000000000000000000000001000000:1F90 00000000000000000000000001000000:C350 01",  # ::1
        )
    )
)


def test_a_list_of_ipv4_is_read() -> None:
    found = list(parse(V4, order="little"))
    assert len(found) == 6
    assert found[1] == Socket(local=("172.17.0.5", 8080), remote=("172.17.0.1", 50000), state=1)


def test_a_list_of_ipv6_is_read() -> None:
    assert [socket.local for socket in parse(V6, order="little")] == [
        ("172.17.0.5", 8080),
        ("fd00::2", 8080),
        ("::1", 8080),
    ]


def test_a_big_endian_machine_prints_addresses_the_other_way() -> None:
    text = HEAD + "   0: AC110005:1F90 AC110001:C350 01" + TAIL
    assert list(parse(text, order="big")) == [list(parse(V4, order="little"))[1]]


def test_clients_from_elsewhere_are_counted_at_a_port() -> None:
    assert open_from_outside(parse(V4, order="little"), 8080) == 2
    assert open_from_outside(parse(V6, order="little"), 8080) == 2
    assert open_from_outside(parse(V4, order="little"), 80) == 0


@pytest.mark.parametrize("text", [V4, V6])
def test_a_list_that_is_cut_anywhere_gives_whole_sockets_or_none(text: str) -> None:
    whole = list(parse(text, order="little"))
    for cut in range(len(text)):
        assert list(parse(text[:cut], order="little")) == whole[: len(list(parse(text[:cut], order="little")))]


@quick
@given(st.text(st.sampled_from("0123456789ABCDEF: \n"), max_size=200))
def test_any_text_is_read_without_an_error(text: str) -> None:
    for socket in parse(text, order="little"):
        assert 0 <= socket.local[1] <= 65535
