"""Which replicas receive requests, and the order in which that changes. For runtimes that leave it to the agent."""
