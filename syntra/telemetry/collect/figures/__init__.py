"""Figures of the host and of containers: the agent reads them, the telemetry process makes metrics of them."""
