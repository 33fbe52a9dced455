"""Health checks of running services: who is asked, what was found, what may change live."""
