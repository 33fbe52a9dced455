"""One concept per module. Each module could be a library of its own; everything else belongs elsewhere.

Imports no other package of syntra.
"""
