"""Services as containers of an engine on this host: the planner, its steps, and the code that performs them.

Docker and Podman share all of it. Nothing here makes engine calls itself or imports the agent.
"""
