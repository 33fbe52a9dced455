"""Which replicas receive requests, and in which order that changes. Only for runtimes without routing."""
