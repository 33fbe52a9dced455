"""The command line: one verb per file, argument parsing, rendering and exit codes.

The only package that prints. Nothing imports it.
"""
