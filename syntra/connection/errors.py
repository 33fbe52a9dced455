"""Errors of the connection.

AgentError
├── MalformedFrame      a frame of the peer that is no envelope (caught by the session: counted, never fatal)
├── UnencodableMessage  a message of ours that JSON cannot carry (caught by the session and the router)
├── NotConnected        there is no accepted connection to send on (caught by the shipper and the log streams)
├── ConnectionSettingsError  settings that can never dial
└── TlsFileError        a certificate, key or CA file that cannot be used (caught by the transport)
"""

from __future__ import annotations

from syntra.utils.errors import AgentError


class MalformedFrame(AgentError):
    """The peer sent something that is no envelope. `str()` is the short reason; it never quotes the frame."""

    code = "MALFORMED_FRAME"


class UnencodableMessage(AgentError):
    """A message of ours holds something JSON cannot carry: a bug on our side, not the peer's."""


class NotConnected(AgentError):
    """Not sent: the control plane has not accepted this agent, or the connection broke before the frame left."""

    code = "NOT_CONNECTED"


class ConnectionSettingsError(AgentError):
    """The settings can never lead to a connection."""

    code = "INVALID_CONFIG"


class TlsFileError(AgentError):
    """A TLS file cannot be used. The text names the configuration key."""

    code = "INVALID_CONFIG"
