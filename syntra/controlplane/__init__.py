"""The reference control plane: the same wire contract, kept small, for development, tests and one-person fleets.

It knows the contract and its own database, never the agent's code: only `connection.codec` is shared, so that the two
ends check each other. `server` is the way in, `client` the way to ask it something.
"""
