"""What traffic can do wrong.

AgentError
├── InvalidRoute       a route holds what must not get into a proxy's configuration
├── InvalidStatic      a proxy of ours could not work with the configuration; names the key
├── ProxyUnreachable   the proxy's API gives no answer, so nobody knows what it routes
└── UnreadableMetrics  the proxy's metrics are not what they should be
"""

from __future__ import annotations

from syntra.utils.errors import AgentError


class InvalidRoute(AgentError):
    """A value that is not what it has to become: a host, a path, a header, an address or a name."""

    code = "INVALID_PAYLOAD"


class InvalidStatic(AgentError):
    """Configuration keys that together make no proxy. `key` is the dotted name of the one to change."""

    code = "CONFIGURATION"

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"cannot set up the proxy: {key}: {reason}")
        self.key = key


class ProxyUnreachable(AgentError):
    """No usable answer from the proxy's API; the proxy itself may well serve."""

    code = "PROXY_UNREACHABLE"


class UnreadableMetrics(AgentError):
    """An answer that is no metrics, or is cut off."""

    code = "PROXY_UNREACHABLE"
