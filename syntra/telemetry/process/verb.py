"""The verb by which the agent starts the telemetry process; people have no use for it, so no help names it."""

VERB = "telemetry-process"
