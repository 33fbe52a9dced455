"""Frozen data that crosses package borders: ids, specs, commands, statuses, and their payload forms.

No I/O, no clock, no randomness. Every package may import it; it imports only `utils`.
"""
