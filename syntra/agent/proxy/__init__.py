"""The proxy on a container engine: its routes file and, where the agent starts the proxy, its container."""
