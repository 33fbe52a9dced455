"""Self-healing: restores replicas that are down or missing, and removes containers that no service needs."""
