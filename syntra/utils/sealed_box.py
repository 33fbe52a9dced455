"""Encrypts secrets at rest: AES-256-GCM with a key in its own private file.

Format of a sealed value: version byte 0x01, 12-byte random nonce, ciphertext with its 16-byte tag.
The context (what the value is, and its owner) is authenticated but not stored: a value moved elsewhere does not unseal.
Random 96-bit nonces are safe for 2**32 values per key (NIST SP 800-38D §8.3).
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from syntra.utils.errors import AgentError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = b"\x01"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16


class Unsealable(AgentError):
    """This key and context do not open a sealed value: it was altered, cut, moved, or sealed with another key."""


class DamagedKey(AgentError):
    """The key file is ours and private, and has another length than a key: what it held is lost."""


class SealedBox:
    """Seals and unseals byte strings with one key. Thread-safe."""

    __slots__ = ("_cipher", "_key")

    def __init__(self, key: bytes) -> None:
        """`key` is 32 random bytes."""
        if len(key) != _KEY_BYTES:
            raise AgentError(f"cannot use the sealing key: it has {len(key)} bytes, not {_KEY_BYTES}; restore the key")
        self._key = key
        self._cipher: AESGCM | None = None

    def __repr__(self) -> str:
        return "SealedBox(key hidden)"

    @classmethod
    def open_or_create(cls, key_path: Path | str) -> SealedBox:
        """Open the box of the key in `key_path`. Create the key (0600, random) if the file does not exist.

        If several processes create it at once, one key wins and all use it. A crash leaves a complete key or none.
        Raises AgentError for a key that other users can read, that belongs to another user, or that is not a regular
        file of 32 bytes (a symlink is refused): a key that another user could have placed or copied protects nothing.
        It is a DamagedKey when only its length is wrong.
        """
        path = Path(key_path)
        try:
            try:
                return cls(_read_key(path))
            except FileNotFoundError:
                _create_key(path)
                return cls(_read_key(path))
        except OSError as exc:
            if exc.errno == errno.ELOOP:
                raise AgentError(f"cannot use key {path}: it is a symlink; put the key file itself there") from exc
            raise AgentError(
                f"cannot open key {path}: {exc.strerror or exc}; check the directory and its permissions"
            ) from exc

    def seal(self, plaintext: bytes, context: str) -> bytes:
        """Encrypt `plaintext`, bound to `context`. The same input gives a different output each time."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _VERSION + nonce + self._aead().encrypt(nonce, plaintext, context.encode())

    def unseal(self, sealed: bytes, context: str) -> bytes:
        """Decrypt `sealed`. Raises Unsealable; the error names the context, never the content."""
        from cryptography.exceptions import InvalidTag

        if len(sealed) < len(_VERSION) + _NONCE_BYTES + _TAG_BYTES:
            raise Unsealable(f"cannot unseal {context}: the value is cut short; restore it from a backup")
        if sealed[:1] != _VERSION:
            raise Unsealable(f"cannot unseal {context}: unknown format version {sealed[0]}; update the agent")
        nonce, body = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            return self._aead().decrypt(nonce, body, context.encode())
        except InvalidTag as exc:
            raise Unsealable(
                f"cannot unseal {context}: it was altered, moved, or sealed under another key;"
                " restore the value together with its key"
            ) from exc

    def _aead(self) -> AESGCM:
        # Imported on first use: loading OpenSSL takes longer than printing the version.
        if self._cipher is None:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            self._cipher = AESGCM(self._key)
        return self._cipher


def _read_key(path: Path) -> bytes:
    # O_NONBLOCK: a FIFO in place of the file must be refused, not waited for.
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode):
            raise AgentError(f"cannot use key {path}: it is not a regular file; remove it")
        if info.st_mode & 0o077:
            raise AgentError(
                f"cannot use key {path}: mode {stat.S_IMODE(info.st_mode):04o} lets other users read it;"
                " run chmod 0600 on it, and replace the key if it may have been copied"
            )
        if info.st_uid not in (0, os.geteuid()):
            raise AgentError(f"cannot use key {path}: it belongs to user id {info.st_uid}; chown it to the agent")
        if info.st_size != _KEY_BYTES:
            raise DamagedKey(
                f"cannot use key {path}: it has {info.st_size} bytes, not {_KEY_BYTES}; restore the key from a backup"
            )
        return os.read(handle, _KEY_BYTES + 1)
    finally:
        os.close(handle)


def _create_key(path: Path) -> None:
    """Write a complete key under a temporary name, then link it: the link fails if the key exists."""
    temp = path.with_name(f".{secrets.token_hex(8)}.tmp")
    handle = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.fchmod(handle, 0o600)
            key = secrets.token_bytes(_KEY_BYTES)
            if os.write(handle, key) != _KEY_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        finally:
            os.close(handle)
        with contextlib.suppress(FileExistsError):
            os.link(temp, path)
    finally:
        os.unlink(temp)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
