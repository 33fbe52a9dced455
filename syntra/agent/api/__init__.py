"""The entry points for commands: the local socket, the control-plane link, and the router behind both."""
