"""Errors of the connection.

AgentError
├── MalformedFrame      the peer sent a frame that is not an envelope (the session counts it; never fatal)
├── UnencodableMessage  JSON cannot hold the agent's message (caught by the session and the router)
├── NotConnected        no accepted connection exists (caught by the shipper and the log streams)
├── ConnectionSettingsError  settings with which no dial can succeed
└── TlsFileError        a certificate, key or CA file is unusable (caught by the transport)
"""

from __future__ import annotations

from syntra.utils.errors import AgentError


class MalformedFrame(AgentError):
    """The peer sent a frame that is not an envelope. `str()` gives a short reason and never quotes the frame."""

    code = "MALFORMED_FRAME"


class UnencodableMessage(AgentError):
    """The agent's own message holds a value that JSON cannot hold: a bug of the agent, not of the peer."""


class NotConnected(AgentError):
    """The message was not sent: no accepted connection exists, or it broke before the frame was written."""

    code = "NOT_CONNECTED"


class ConnectionSettingsError(AgentError):
    """With these settings no dial can succeed."""

    code = "INVALID_CONFIG"


class TlsFileError(AgentError):
    """A TLS file is unusable. The message names the configuration key."""

    code = "INVALID_CONFIG"
