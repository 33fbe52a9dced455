"""The data directory: it exists and belongs to the agent alone."""

from __future__ import annotations

from pathlib import Path

from syntra.model.errors import RequestError
from syntra.utils.errors import AgentError


def make_private(path: Path) -> None:
    """Create the directory, for the agent's user only. Raises AgentError when that is impossible."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as refused:
        sentence = f"cannot use data_dir {path}: {refused.strerror}; choose another or fix its owner"
        if isinstance(refused, PermissionError):
            raise RequestError("PERMISSION_DENIED", sentence) from refused
        raise AgentError(sentence) from refused
