"""The journal: commands, running operations, desired state and unsent messages, in one SQLite file.

A command's rows and the messages about it change in one transaction, so a kill cannot separate them. Columns that may
hold secrets are encrypted; ids, times and states stay readable with the sqlite3 shell.
"""
