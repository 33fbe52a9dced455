"""Errors of the name server.

AgentError
├── BindFailed       an address cannot be bound (shown in the status; the agent falls back to engine aliases)
└── InvalidUpstream  a configured upstream is not an address (caught when the configuration is checked)
"""

from __future__ import annotations

from syntra.utils.errors import AgentError


class BindFailed(AgentError):
    """`address` and `port` cannot be bound for `transport` ("udp" or "tcp").

    `holder` names the process that uses the port, "" when it is unknown.
    """

    code = "DNS_BIND_FAILED"

    def __init__(self, *, address: str, port: int, transport: str, reason: str, holder: str, advice: str) -> None:
        super().__init__(f"cannot bind {address} port {port}/{transport}: {reason}; {advice}")
        self.address = address
        self.port = port
        self.transport = transport
        self.reason = reason
        self.holder = holder


class InvalidUpstream(AgentError):
    """The text is not `ADDRESS`, `ADDRESS:PORT` or `[ADDRESS]:PORT`."""

    code = "INVALID_CONFIG"
