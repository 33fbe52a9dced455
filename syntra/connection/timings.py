"""How patient the connection is. Pure."""

from __future__ import annotations

from syntra.utils.frozen import frozen


@frozen
class Timings:
    """Seconds. The defaults are what runs; tests shorten them."""

    open_timeout_secs: float = 10.0  # TCP, TLS, proxy and upgrade together
    hello_timeout_secs: float = 20.0  # to gather the hello payload, before dialling
    ack_timeout_secs: float = 30.0  # hello_ack after hello; the control plane gives us 30 s likewise
    close_timeout_secs: float = 5.0  # closing handshake and TCP; then the socket is broken
    send_timeout_secs: float = 120.0  # one frame into the socket: 16 MiB at 1 Mbit/s
    silent_intervals: float = 3.0  # heartbeat intervals without any frame until the peer counts as dead
    file_check_secs: float = 60.0  # between looks at the TLS files
    ping_interval_secs: float = 20.0  # WebSocket pings keep NAT entries and proxies open
    ping_timeout_secs: float = 60.0  # generous: a pong waits behind what slow uplinks still hold in the kernel
