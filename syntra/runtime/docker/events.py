"""The engine's events (Engine API, "Monitor events").

The engine keeps 256 events, loses them when it restarts, and drops events of slow readers. So read the stream in its
own task, and list and inspect everything after each (re)connect.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

from syntra.runtime.docker import parsing
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.errors import StreamBroken
from syntra.runtime.docker.jsonlines import JsonStream
from syntra.runtime.docker.records import EngineEvent

_NANOS = 1_000_000_000


class Events:
    """The event stream of one engine."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client

    async def stream(
        self,
        since: int | None = None,
        filters: Mapping[str, Sequence[str]] | None = None,
        *,
        on_open: Callable[[], None] = lambda: None,
    ) -> AsyncGenerator[EngineEvent, None]:
        """Events from now on, or from `since` (nanoseconds since the epoch, inclusive) if the engine still has them.

        It never ends normally: it raises StreamBroken when the engine goes away. Close it with `contextlib.aclosing`.
        `on_open` is called when the engine has answered, which may be hours before the first event.
        `filters` such as `{"type": ["container"], "event": ["die", "oom"]}` exclude the events of exec probes.
        """
        query = {
            "since": None if since is None else f"{since // _NANOS}.{since % _NANOS:09d}",
            "filters": {name: list(values) for name, values in (filters or {}).items()},
        }
        decoder = JsonStream()
        async with self._client.stream("GET", "/events", query=query) as stream:
            on_open()
            async for chunk in stream:
                for value in decoder.feed(chunk):
                    yield parsing.engine_event(value)
                if decoder.error is not None:
                    raise decoder.error
        raise StreamBroken("GET /events", "the engine ended the stream")
