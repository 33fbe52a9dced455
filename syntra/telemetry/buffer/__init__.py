"""The durable ring: telemetry on disk until every consumer has taken it.

`ring` is the door. It knows files and bytes, not OTLP: records come in as bytes and leave as zstd frames. Receivers and
shippers may import `ring`, `reader`, `stats` and `errors`; the other modules are internal.
"""
