"""Deploy, scale, stop, restart, rollback: one queue per service, one executor, one report per operation."""
