"""The journal: what the agent was told, what it is doing and what it has yet to say, in one SQLite file.

Rows about one command change in one transaction with the messages that tell of it, so that no kill can separate
the two. Contents that may hold secrets are sealed; ids, times and states stay readable for a person with sqlite3.
"""
