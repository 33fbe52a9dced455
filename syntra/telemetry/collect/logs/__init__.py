"""The logs of containers: read from the engine's files or its streams, joined, parsed, and kept exactly once."""
