"""Who may ask, and what each command means: the local socket, the control plane's link, the router."""
