"""Configuration: one table of keys, and its way from a TOML file and the environment into frozen settings.

Knows no feature: it says what was asked for, and where each value came from. `cli` and the rest of `agent` import it.
"""
