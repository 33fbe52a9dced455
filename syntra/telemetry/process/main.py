"""The telemetry process: started by the agent, told everything over its link, ended by the agent or its end.

It ignores SIGTERM and SIGINT: a service manager or a terminal signals the whole group, but only the agent knows when
the last batch is shipped. It ends when the agent's end of the link closes, so it cannot outlive the agent. SIGHUP opens
the log file again.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from syntra.telemetry.link import Link, Message
from syntra.telemetry.otlp.memory import limit_allocator
from syntra.telemetry.process.service import FINISH_SECS, TelemetryService
from syntra.telemetry.process.settings import parse_settings
from syntra.utils.errors import AgentError
from syntra.utils.program_pages import return_memory
from syntra.utils.redact import Redactor
from syntra.utils.structured_log import LogFormat, LogHandle, configure

log = logging.getLogger(__name__)

# The kernel ends this process before the agent or a service when memory runs out (proc(5), oom_score_adj).
_OOM_SCORE = "500"
# As `ps` shows it: at most 15 characters.
_NAME = "syntra-telemetr"
NICE = 15
"""Under a flood, deploys and the engine get the processor first; senders wait."""
CONFIGURE_SECS = 20.0


def main(channel: socket.socket) -> int:
    """Run the process; `channel` is its end of the link. Returns the exit code."""
    if sys.stderr is not None:
        # Libraries in C do most of the work here; a crash of one leaves the Python stack too.
        faulthandler.enable()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # SIGHUP too, until there is a log file to open again.
        signal.signal(number, signal.SIG_IGN)
    for path, text in (("/proc/self/oom_score_adj", _OOM_SCORE), ("/proc/self/comm", _NAME)):
        with suppress(OSError):
            Path(path).write_text(text)
    with suppress(OSError):
        os.nice(NICE)
    limit_allocator()
    channel.setblocking(False)
    try:
        asyncio.run(_main(channel))
    except AgentError as failed:
        log.error("telemetry process cannot run", extra={"reason": str(failed)})
        return 1
    except Exception:  # a bug: its traceback belongs into the log, which the standard error may not be
        log.exception("telemetry process failed")
        return 1
    return 0


async def _main(channel: socket.socket) -> None:
    link = await Link.over(channel)
    async with asyncio.timeout(CONFIGURE_SECS):
        first = await link.receive()
    if first is None:
        return
    assert first.kind == "configure", "cannot happen because the agent's first message is the configuration"
    log_to = first.fields["logging"]
    assert isinstance(log_to, dict), "cannot happen because the agent writes it as an object"
    log_handle = configure_logging(log_to)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, log_handle.reopen)
    service = TelemetryService(parse_settings(first.fields), link)
    await service.open()
    # What is loaded now stays, so collections can skip it.
    gc.collect()
    gc.freeze()
    return_memory()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work, name=name) for name, work in service.tasks()]
            for name, work in service.receiving():
                group.create_task(work, name=name)
            shipping = [group.create_task(work, name=name) for name, work in service.shipping()]
            with suppress(OSError):
                # If the agent is gone, the end of its messages says so.
                await link.send("ready")
            await _follow(link, service)
            for task in tasks:
                # So that nothing listens again on what is closed now.
                task.cancel()
            # What becomes of the last batches comes over the link, too.
            answers = group.create_task(_follow_to_end(link, service), name="link")
            await service.finish()
            if shipping:
                await asyncio.wait(shipping, timeout=FINISH_SECS + 1)
            for task in [answers, *shipping]:
                task.cancel()
    finally:
        await service.close()
        link.close()


def configure_logging(wanted: Mapping[str, Any]) -> LogHandle:
    """Log as the agent does: to the same file, or to the standard error that both have."""
    form = LogFormat(wanted["format"] or ("text" if wanted["file"] is None and sys.stderr.isatty() else "json"))
    redactor = Redactor()
    for secret in wanted["secrets"]:
        redactor.add(secret)
    return configure(form, wanted["level"], Path(wanted["file"]) if wanted["file"] else None, redactor)


async def _follow_to_end(link: Link, service: TelemetryService) -> None:
    await _follow(link, service)
    service.agent_is_gone()


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
            service.senders.within(fields["subnets"], is_shared=fields["is_shared"])
            await service.listeners.open(fields["gateways"])
        case "figures":
            service.figures.take(fields)
        case "scrape_targets":
            service.scrape(fields["targets"])
        case "control_plane":
            service.follow_control_plane(fields)
        case "sent":
            service.control_plane.sent(fields)
        case "acknowledged":
            service.control_plane.acknowledged(fields)
        case "status":
            with suppress(OSError):
                # If the agent is gone, the next message says so.
                await link.send("answer", {"number": fields["number"], **service.status()})
        case "tail":
            service.tails.begin(fields["number"], fields["service"], fields["signal"])
        case "end_tail":
            service.tails.end(fields["number"])
        case kind if kind.startswith("log_"):
            service.container_logs.take(kind, fields, message.body)
        case _:
            log.warning("unknown message of the agent", extra={"kind": message.kind})
