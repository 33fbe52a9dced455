"""Alerts: one message when a condition begins and one when it ends."""
