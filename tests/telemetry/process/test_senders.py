"""Which container an address belongs to, also for a container that is faster than the agent's message."""

from __future__ import annotations

import asyncio
import threading
import time

from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from syntra.telemetry.process.senders import STRANGER, Senders
from syntra.telemetry.processing.identity import Identity, identified
from tests.telemetry.process.rigs import IDENTITY, Clock

WEB = Identity(**IDENTITY)
LONG_SECS = 20.0
"""A wait that a test would notice."""


def senders(*, wait_secs: float = LONG_SECS, clock: Clock | None = None) -> Senders:
    made = Senders(wait_secs=wait_secs, clock=clock or Clock())
    made.within(["172.18.0.0/16", "fd00:1::/64"])
    return made


def test_a_known_address_is_its_container() -> None:
    table = senders()
    table.update({"172.18.0.2": IDENTITY, "fd00:1::2": IDENTITY})
    assert table.of("172.18.0.2") == table.of("fd00:1::2") == WEB
    table.update({"172.18.0.3": IDENTITY})
    assert table.of("172.18.0.3") == WEB
    assert table.unknown == 0


async def test_addresses_outside_are_not_waited_for() -> None:
    table = senders()
    async with asyncio.timeout(LONG_SECS / 2):
        for address in ("127.0.0.1", "::1", "192.0.2.1", "", "no address", "fd00:2::1"):
            assert table.of(address) is None
            assert await table.of_async(address) is None
    assert table.unknown == 0


def test_without_networks_nothing_is_waited_for() -> None:
    assert Senders(wait_secs=LONG_SECS).of("172.18.0.2") is None


def test_an_unknown_sender_waits_until_the_table_arrives() -> None:
    table = senders()
    found: list[Identity | None] = []
    thread = threading.Thread(target=lambda: found.append(table.of("172.18.0.2")))
    began = time.monotonic()
    thread.start()
    table.update({"172.18.0.9": IDENTITY})
    table.update({"172.18.0.2": IDENTITY})
    thread.join(LONG_SECS)
    assert found == [WEB]
    assert time.monotonic() - began < LONG_SECS / 2
    assert table.unknown == 0


async def test_an_unknown_sender_waits_on_a_loop_too() -> None:
    table = senders()
    async with asyncio.timeout(LONG_SECS / 2), asyncio.TaskGroup() as group:
        waiting = [group.create_task(table.of_async("172.18.0.2")) for _ in range(3)]
        await asyncio.sleep(0)
        table.update({"172.18.0.9": IDENTITY})
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        table.update({"172.18.0.2": IDENTITY})
    assert [task.result() for task in waiting] == [WEB, WEB, WEB]


async def test_a_stranger_is_waited_for_once_in_ten_seconds() -> None:
    clock = Clock()
    table = senders(wait_secs=0.2, clock=clock)
    began = time.monotonic()
    assert table.of("172.18.0.7") is STRANGER
    assert time.monotonic() - began >= 0.2
    assert table.unknown == 1
    began = time.monotonic()
    for _ in range(100):
        assert table.of("172.18.0.7") is STRANGER
        assert await table.of_async("172.18.0.7") is STRANGER
    assert time.monotonic() - began < 100 * 0.2
    assert table.unknown == 201
    clock.now += 10.1
    began = time.monotonic()
    assert await table.of_async("172.18.0.7") is STRANGER
    assert time.monotonic() - began >= 0.19


async def test_a_new_table_knows_no_strangers() -> None:
    table = senders(wait_secs=0.02)
    assert await table.of_async("172.18.0.7") is STRANGER
    table.update({"172.18.0.7": IDENTITY})
    assert await table.of_async("172.18.0.7") == WEB
    table.update({})
    before = table.unknown
    began = time.monotonic()
    assert table.of("172.18.0.7") is STRANGER
    assert time.monotonic() - began >= 0.02
    assert table.unknown == before + 1


async def test_on_a_shared_network_any_sender_may_be_a_container_and_another_keeps_its_claims() -> None:
    clock = Clock()
    table = Senders(wait_secs=0.2, clock=clock)
    table.within([], is_shared=True)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(table.of_async("10.244.0.7"))
        await asyncio.sleep(0)
        table.update({"10.244.0.7": IDENTITY})
    assert first.result() == WEB
    began = time.monotonic()
    assert table.of("10.244.0.8") is None
    assert time.monotonic() - began >= 0.2
    began = time.monotonic()
    for _ in range(100):
        assert table.of("10.244.0.8") is None and await table.of_async("10.244.0.8") is None
        assert table.of("127.0.0.1") is None, "a process of this machine is never waited for"
    assert time.monotonic() - began < 100 * 0.2
    assert table.unknown == 0, "it need not be one of the agent's"


def test_a_stranger_keeps_its_name_and_loses_claims_of_other_services() -> None:
    claimed = Resource()
    for key in ("service.name", "syntra.service.id", "syntra.deployment.id", "syntra.project", "host.name"):
        claimed.attributes.add(key=key).value.string_value = "claimed"
    kept = identified(claimed, STRANGER)
    assert [attribute.key for attribute in kept.attributes] == ["service.name", "host.name"]
