"""The reference control plane: the same wire contract, kept small, for development, tests and one-person fleets.

It implements the contract and has its own database. Of the agent's code it shares `connection.codec`, the generated
messages of `telemetry.wire` and the contract's form of OTLP in `telemetry.shipping.contract`. All else is its own, so
that each end checks the other. The entry point is `server`.
"""
