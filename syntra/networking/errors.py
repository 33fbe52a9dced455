"""Errors of networking.

AgentError
├── InvalidRoute       a route contains a value that must not get into a proxy's configuration
├── InvalidStatic      the agent's own proxy could not run with this configuration; names the key
├── ProxyUnreachable   the proxy's API does not answer, so its routes are unknown
└── UnreadableMetrics  the proxy's metrics cannot be parsed
"""

from __future__ import annotations

from syntra.utils.errors import AgentError


class InvalidRoute(AgentError):
    """A value is not a valid host, path, header, address or name."""

    code = "INVALID_PAYLOAD"


class InvalidStatic(AgentError):
    """Settings that do not work together. `key` is the dotted name of the one to change."""

    code = "CONFIGURATION"

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"cannot set up the proxy: {key}: {reason}")
        self.key = key


class ProxyUnreachable(AgentError):
    """The proxy's API gave no usable answer; the proxy itself may still handle requests."""

    code = "PROXY_UNREACHABLE"


class UnreadableMetrics(AgentError):
    """The answer is not metrics, or is truncated."""

    code = "PROXY_UNREACHABLE"
