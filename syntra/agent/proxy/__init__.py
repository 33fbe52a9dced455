"""The proxy of an agent on a container engine: its routes file and, where the agent starts it, its container."""
