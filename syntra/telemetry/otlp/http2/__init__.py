"""The server's half of HTTP/2 (RFC 9113), pure: bytes in, events and bytes out. It knows nothing of gRPC or sockets."""
