"""The durable ring: telemetry on disk until it is shipped."""
