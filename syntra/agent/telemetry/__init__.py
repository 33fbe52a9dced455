"""The agent's side of telemetry: runs the telemetry process, names its senders, ships its batches."""
