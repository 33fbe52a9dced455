"""Health: which checks a service has, how to probe it, and the pure verdict on the results.

Imports no runtime: probes take addresses and injected capabilities.
"""
