"""Prometheus endpoints: fetched on an interval, parsed, and encoded as OTLP metrics."""
