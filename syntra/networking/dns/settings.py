"""Limits of the name server. Times in seconds, sizes in bytes."""

from __future__ import annotations

from syntra.utils.frozen import frozen


@frozen
class DnsSettings:
    """Limits and deadlines; the defaults fit a host with a few hundred containers."""

    port: int = 53
    """0 picks a free port, the same for UDP and TCP."""
    query_bytes: int = 768
    """Larger queries are dropped: a question with its options fits into 512, and parsing time grows with every byte of
    a hostile query (30 ms for 4 KiB of names that point to each other)."""
    rate: float = 1000.0
    """Queries per second of one source, on average."""
    burst: int = 2000
    sources: int = 1024
    """How many sources are remembered."""
    given: int = 4096
    """For how many addresses the time of the last answer is remembered."""
    forward_secs: float = 3.0
    """Timeout per upstream; below the 4 s after which the engine's resolver stops waiting."""
    forwards: int = 256
    """Queries being forwarded at once; further ones get SERVFAIL."""
    forwards_per_source: int = 64
    connections: int = 256
    connections_per_source: int = 32
    connection_queries: int = 500
    """Queries per TCP connection, which is then closed."""
    idle_secs: float = 10.0
    """Wait for the first byte of the next query on a TCP connection (RFC 7766 §6.2.3)."""
    message_secs: float = 5.0
    """Wait for the rest of a query, and for the peer to read an answer."""
