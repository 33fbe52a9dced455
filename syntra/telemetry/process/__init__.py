"""The telemetry process: wires receivers, processing, ring and shippers; talks to the agent over a socket pair."""
