"""Messages of telemetry on the control-plane connection, generated from `proto/` by `scripts/generate-proto`."""
