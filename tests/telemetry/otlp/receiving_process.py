"""Both receivers in a process of their own, without the rest of the pipeline: prints their ports, runs until killed."""

from __future__ import annotations

import asyncio

from syntra.telemetry.otlp.grpc_server import GrpcReceiver
from syntra.telemetry.otlp.http_limits import HttpLimits
from syntra.telemetry.otlp.http_server import HttpReceiver
from syntra.telemetry.otlp.json_decoder import decode_json
from syntra.telemetry.otlp.memory import limit_allocator
from tests.telemetry.otlp.small_intake import SmallIntake


async def main() -> None:
    """Listen on free ports of loopback."""
    limit_allocator()
    intake = SmallIntake(keeps=False)
    http = HttpReceiver(intake, decode_json, port=0, limits=HttpLimits(head_secs=5, body_secs=5))
    grpc = GrpcReceiver(intake, port=0)
    print(http.listen("127.0.0.1"), await grpc.listen("127.0.0.1"), flush=True)
    await grpc.run()


if __name__ == "__main__":
    asyncio.run(main())
