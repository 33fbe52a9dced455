"""Docker: an Engine API client written for asyncio (unix socket or TLS), and the adapter that uses it.

Pure modules parse bytes and build bodies; only `connection` opens sockets.
"""
