"""What the demo asks of a runtime, and plain HTTP requests to its containers."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

PORT = 8080
# The address of a removed container does not answer at all; a refused connection fails at once.
PATIENCE_SECS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container of the demo's service; `address` is empty until it has one."""

    id: str
    name: str
    deployment_id: str
    running: bool
    is_kept: bool
    """It failed, and is kept for a look at it."""
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A target of requests; `host` is the requested name, empty for the address itself."""

    address: str
    port: int
    host: str = ""
    patience_secs: float = PATIENCE_SECS


Targets = Callable[[], Sequence[Target]]
"""Called before every request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How requests reach the service. `introduction` and `look` are empty when there is nothing to say or to type."""

    through: str
    """In words, such as `Traefik`; empty for the containers' own addresses, tried in turn."""
    targets: Targets
    domains: tuple[str, ...] = ()
    introduction: str = ""
    look: Callable[[], str] = str
    """A command that sends one request."""

    @property
    def is_naive(self) -> bool:
        """Requests go to the containers' own addresses, so only an update may be seen."""
        return not self.through


class Runtime(Protocol):
    """Where the service of one demo runs. Methods raise StoryFailed, or OSError when it cannot be reached."""

    @property
    def name(self) -> str:
        """Its name, as `--runtime` takes it."""
        ...

    removed: str
    """What a stop with removal leaves, in words."""

    @property
    def otlp_address(self) -> str:
        """Where the agent receives telemetry; empty for the agent's own default."""
        ...

    def publish(self, broken: Mapping[str, bool]) -> str:
        """Make the versions of the image available; returns a sentence. The values say which have no `/health`."""
        ...

    def image(self, version: str) -> object:
        """The `image` of a deploy."""
        ...

    def open_way(self) -> Way:
        """Start what requests pass through."""
        ...

    def agent_settings(self, otlp_http_port: int) -> str:
        """The agent's settings for this runtime, as tables of TOML."""
        ...

    def containers(self) -> list[Container]:
        """Every container of the service, oldest first; none that is about to end."""
        ...

    def left(self) -> list[str]:
        """What is left of the service after it was removed."""
        ...

    def clear(self) -> None:
        """Remove everything of the demo, and end the processes that the runtime started."""
        ...


def ask(address: str, path: str = "/", *, port: int = PORT, timeout: float = 3.0, host: str = "") -> tuple[int, str]:
    """Status and text of one plain HTTP GET; raises OSError or HTTPException when there is no answer."""
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode().strip()
    finally:
        connection.close()
