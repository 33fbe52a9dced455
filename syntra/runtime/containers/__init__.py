"""Services as containers of an engine on this host: the planner, its steps, and what performs them.

Docker's engine and Podman's share all of it. Nothing here knows how an engine is asked, and nothing of the agent.
"""
