"""Service discovery: the names of services on their projects' networks, answered by the agent."""
