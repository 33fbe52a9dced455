"""What should run, runs: down or missing replicas come back, and what no service needs is collected."""
