"""Configuration: one table of keys, read from a TOML file and the environment into frozen settings.

It knows no feature: it holds each value and where the value came from. `cli` and the rest of `agent` import it.
"""
