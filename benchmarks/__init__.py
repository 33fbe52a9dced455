"""Benchmarks of the agent, each next to a peer that does the same work in the same run. `scripts/bench NAME` runs one.

They are never part of a test run: a result depends on the machine and its load.
"""
