"""Installs the agent as a service of the machine, and removes it again.

`plan` and `removal` compute lists of actions from what `machine` observes; `perform` carries them out and undoes them
after a failure. It does not download or verify releases (scripts/install.sh and syntra.update do), and does not touch
containers. Only the command line imports it.
"""
