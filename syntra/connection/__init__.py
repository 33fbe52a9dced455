"""The control-plane connection: a session that is a pure state machine, and the one adapter that moves its bytes.

Knows frames and payload mappings, not deployments. Imports no other feature package.
"""
