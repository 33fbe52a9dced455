"""Updates of the agent itself: checks, the update, and the judgement of a new version."""
