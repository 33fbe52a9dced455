"""Telemetry in the control plane: batches of agents are checked, indexed and stored compressed, and found again.

A batch becomes blocks, one for each kind of item. `binary` and `contract` read the two forms in which agents send,
`store` keeps blocks, `query` finds items in them.
"""
