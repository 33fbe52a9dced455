"""What bounds the name server. Times in seconds, sizes in bytes."""

from __future__ import annotations

from syntra.utils.frozen import frozen


@frozen
class DnsSettings:
    """Limits and deadlines; the defaults fit a machine of a few hundred containers."""

    port: int = 53
    """0 takes a free one, the same for UDP and TCP."""
    query_bytes: int = 768
    """Larger queries are dropped: a question and its options fit into 512, and parsing hostile ones takes longer with
    every byte (30 ms for 4 KiB of names that point into each other)."""
    rate: float = 1000.0
    """Queries a second of one source, over time."""
    burst: int = 2000
    sources: int = 1024
    """Sources whose rate is remembered."""
    given: int = 4096
    """Addresses of which is remembered when they were last given out."""
    forward_secs: float = 3.0
    """For one upstream; below the 4 s after which the engine's resolver gives up on us."""
    forwards: int = 256
    """Queries under way to upstreams; one more is answered SERVFAIL."""
    forwards_per_source: int = 64
    connections: int = 256
    connections_per_source: int = 32
    connection_queries: int = 500
    """Queries on one TCP connection, which is closed after the last."""
    idle_secs: float = 10.0
    """Until the first byte of the next query on a TCP connection (RFC 7766 §6.2.3)."""
    message_secs: float = 5.0
    """For the rest of a query, and for the peer to take an answer."""
