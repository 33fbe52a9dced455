"""Health checks of running services: targets, results, and overrides at run time."""
