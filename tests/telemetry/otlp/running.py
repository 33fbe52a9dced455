"""A gRPC receiver that runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from syntra.telemetry.otlp.grpc_server import GrpcReceiver


@asynccontextmanager
async def running(receiver: GrpcReceiver, grace_secs: float = 0.5) -> AsyncIterator[GrpcReceiver]:
    """Run it until the end of the context."""
    async with asyncio.TaskGroup() as group:
        group.create_task(receiver.run())
        try:
            yield receiver
        finally:
            await receiver.close(grace_secs)
