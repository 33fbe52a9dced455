"""Measurements of the agent, each beside a peer doing the same work in the same run; `scripts/bench NAME` runs one.

Never part of a test run: a figure depends on the machine and on what else it does.
"""
