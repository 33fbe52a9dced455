"""Pure translation between the wire contract and what a control plane really sends and understands.

No state, no input or output, no knowledge of services. Only `agent.api.dialect_door` uses it.
"""
