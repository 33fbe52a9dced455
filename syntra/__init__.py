"""The node agent of a bring-your-own-server platform: one process per server that deploys, watches and reports."""

__version__ = "0.1.0"
