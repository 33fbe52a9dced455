"""Container runtimes behind one interface, and the pure planner that computes steps from desired and observed state.

Imports no other feature package; `agent` executes the plans.
"""
