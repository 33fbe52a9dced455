"""The recorded session of docs/session.md: the commands, and what makes their output the same on every run."""
