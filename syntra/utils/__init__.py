"""One concept per module, each fit to be a library of its own; what is not belongs elsewhere.

Imports nothing of ours.
"""
