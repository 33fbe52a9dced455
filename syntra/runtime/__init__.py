"""Container runtimes behind one adapter interface, and the pure planner that turns desired and observed into steps.

Imports no other feature package; `agent` executes the plans.
"""
