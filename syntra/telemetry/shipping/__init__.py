"""Batches out of the ring, and where they go: OTLP endpoints and the control plane."""
