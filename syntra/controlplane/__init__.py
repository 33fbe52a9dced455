"""The reference control plane: the same wire contract, kept small, for development, tests and one-person fleets."""
