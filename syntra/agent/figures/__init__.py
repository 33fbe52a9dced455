"""One sampler of what the host and the containers use, for heartbeats, `metrics`, `top` and telemetry."""
