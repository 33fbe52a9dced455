"""The control-plane connection: a pure session state machine, and one adapter that does its input and output.

Knows frames and payload mappings, not deployments. Imports no other feature package.
"""
