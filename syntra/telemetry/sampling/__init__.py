"""Consistent probability sampling of traces and logs with adaptive rates. Pure."""
