"""What the agent collects by itself, beside what services send."""
