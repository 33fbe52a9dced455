"""Traffic: routes, proxy configuration and internal names. Pure rendering apart from the writers and the server."""
