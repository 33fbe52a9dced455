"""A process that appends to a ring as fast as it can and prints the name of each record that is acknowledged.

    python -m tests.telemetry.buffer.writer_process DIRECTORY PREFIX thread|loop fsync

It also ships: a reader prints `got NAME…` for each batch, takes it, and then prints `took`. The test kills it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from pathlib import Path

from syntra.telemetry.buffer.ring import Buffer
from syntra.telemetry.signals import Signal
from tests.telemetry.buffer.rings import ALL, names, record

SIGNALS = (Signal.TRACES, Signal.LOGS, Signal.METRICS)


def say(line: str) -> None:
    """One write for each line, so that lines of several threads stay whole and none waits in the process."""
    os.write(1, f"{line}\n".encode())


def append_for_ever(buffer: Buffer, prefix: str) -> None:
    for number in range(1_000_000):
        name = f"{prefix}-{number}"
        buffer.append([record(name, signal=SIGNALS[number % 3], size=number % 7 * 300)])
        say(f"kept {name}")


async def append_on_a_loop(buffer: Buffer, prefix: str) -> None:
    async def one(worker: int) -> None:
        for number in range(1_000_000):
            name = f"{prefix}-{worker}-{number}"
            await buffer.append_async([record(name, signal=SIGNALS[number % 3], size=number % 7 * 300)])
            say(f"kept {name}")

    async with asyncio.TaskGroup() as group:
        for worker in range(4):
            group.create_task(one(worker))


def ship_for_ever(buffer: Buffer) -> None:
    reader = buffer.reader("one", ALL)
    while True:
        batch = reader.next(max_items=10, max_bytes=1 << 16)
        if batch is None:
            reader.wait(1)
            continue
        say("got " + " ".join(names(batch)))
        reader.taken(batch)
        say("took")


def main() -> None:
    directory, prefix, way, fsync = sys.argv[1:]
    buffer = Buffer.open(Path(directory), max_bytes=8 << 20, fsync=fsync)
    threading.Thread(target=ship_for_ever, args=(buffer,), daemon=True).start()
    if way == "thread":
        append_for_ever(buffer, prefix)
    else:
        asyncio.run(append_on_a_loop(buffer, prefix))


if __name__ == "__main__":
    main()
