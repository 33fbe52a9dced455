"""The running agent: configuration, task tree, command router, deployer, journal, local socket.

Composes the feature packages and hands values between them. Only `cli` imports it.
"""
