"""What can go wrong in a build."""

from __future__ import annotations


class BuildError(Exception):
    """The build cannot go on; the text says why and what to do."""

    status = 1


class ToolsMissing(BuildError):
    """The machine lacks a tool; a caller may take that for a reason to go on without the binary."""

    status = 3
