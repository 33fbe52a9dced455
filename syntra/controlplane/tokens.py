"""Tokens: 256 random bits, stored as SHA-256 (no salt is needed at that entropy), compared in constant time."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from pathlib import Path

from syntra.utils.errors import AgentError

_BEARER = "bearer "


def new_agent_token() -> str:
    """A token for the agent of one server."""
    return f"syn_agt_{secrets.token_urlsafe(32)}"


def token_hash(token: str) -> bytes:
    """The hash of a token, which is what the store keeps."""
    return hashlib.sha256(token.encode()).digest()


def bearer_token(authorization: str | None) -> str | None:
    """The token in an `Authorization` header value."""
    if authorization is None or not authorization.lower().startswith(_BEARER):
        return None
    return authorization[len(_BEARER) :].strip() or None


def read_or_create_operator_token(path: Path) -> bytes:
    """The hash of the operator's token. The first start creates the file with mode 0600.

    Raises AgentError when the file is readable by others or does not hold a token.
    """
    try:
        if not path.exists():
            _create(path, f"syn_op_{secrets.token_urlsafe(32)}\n")
        with path.open() as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            token = file.read(4096).strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise AgentError(f"cannot use the operator token {path}: {exc}; check the data directory") from exc
    if mode & 0o077:
        raise AgentError(
            f"cannot use the operator token {path}: others can read it; delete it, and the next start creates a new one"
        )
    if len(token) < 32:
        raise AgentError(
            f"cannot use the operator token {path}: it is too short; delete it, and the next start creates a new one"
        )
    return token_hash(token)


def _create(path: Path, text: str) -> None:
    # Written under another name first, so that the file never has half a token, even after a crash.
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, text.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    unfinished.rename(path)
