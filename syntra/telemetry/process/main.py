"""The telemetry process: started by the agent, told everything over its link, ended by the agent or its end."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from syntra.telemetry.link import Link, Message
from syntra.telemetry.process.service import FINISH_SECS, TelemetryService
from syntra.telemetry.process.settings import parse_settings
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

# The kernel ends this process before the agent or a service when memory runs out (proc(5), oom_score_adj).
_OOM_SCORE = "500"
CONFIGURE_SECS = 20.0


def run(channel: socket.socket) -> int:
    """Run the process; `channel` leads to the agent. Returns the exit code."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    channel.setblocking(False)
    try:
        asyncio.run(_main(channel))
    except* AgentError as failed:
        log.error("telemetry process cannot run", extra={"reason": str(failed.exceptions[0])})
        return 1
    return 0


async def _main(channel: socket.socket) -> None:
    link = await Link.over(channel)
    async with asyncio.timeout(CONFIGURE_SECS):
        first = await link.receive()
    if first is None:
        return
    assert first.kind == "configure", "cannot happen because the agent's first message is the configuration"
    service = TelemetryService(parse_settings(first.fields), link)
    await service.open()
    # What is loaded now stays: collections need not look at it again.
    gc.collect()
    gc.freeze()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work, name=name) for name, work in service.tasks()]
            shipping = [group.create_task(work, name=name) for name, work in service.shipping()]
            await link.send("ready")
            await _follow(link, service)
            await service.finish()
            if shipping:
                await asyncio.wait(shipping, timeout=FINISH_SECS + 1)
            for task in [*tasks, *shipping]:
                task.cancel()
    finally:
        await service.close()
        link.close()


async def _follow(link: Link, service: TelemetryService) -> None:
    """Take the agent's messages until it asks to stop or is gone."""
    while (message := await link.receive()) is not None:
        if message.kind == "stop":
            return
        await _take(link, message, service)


async def _take(link: Link, message: Message, service: TelemetryService) -> None:
    fields: Any = message.fields
    match message.kind:
        case "senders":
            service.senders.update(fields["senders"])
        case "gateways":
            service.senders.within(fields["subnets"])
            await service.listeners.open(fields["gateways"])
        case "control_plane":
            service.control_plane.update(fields)
        case "sent":
            service.control_plane.sent(fields)
        case "acknowledged":
            service.control_plane.acknowledged(fields)
        case "status":
            await link.send("answer", {"number": fields["number"], **service.status()})
        case "tail":
            service.tails.begin(fields["number"], fields["service"], fields["signal"])
        case "end_tail":
            service.tails.end(fields["number"])
        case _:
            log.warning("unknown message of the agent", extra={"kind": message.kind})
