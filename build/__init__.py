"""How the one-file program is made: the launcher, the compiler, and what they are told.

Runs in the development environment (`scripts/build`); nothing here ships, except the launcher. docs/release.md
describes the steps.
"""
