"""Health: what to check, how to probe it, and the pure verdict over what was seen.

Imports no runtime: probes take addresses and injected capabilities.
"""
