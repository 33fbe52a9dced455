"""Networking: routes, proxy configuration and internal names. Pure, apart from the file writer and the servers."""
