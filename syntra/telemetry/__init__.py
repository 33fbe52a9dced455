"""Telemetry: receivers, collectors, sampling, the durable ring, batching and shipping."""
