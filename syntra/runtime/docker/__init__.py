"""Docker: a hand-written Engine API client (asyncio, unix socket or TLS) and the adapter that speaks it.

Pure modules parse bytes and build bodies; only `connection` opens sockets.
"""
