"""A release server: fetches the key list and a manifest, and verifies both before anything is read from them.

BASE/keys.json, BASE/keys.json.sig               the release keys, signed by a root key
BASE/CHANNEL/manifest.json, manifest.json.sig    the newest release of a channel
BASE/VERSION/manifest.json, manifest.json.sig    the same of one version
BASE/VERSION/<archives>
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from syntra.update.errors import UpdateError
from syntra.update.fields import Malformed
from syntra.update.keys import KeyList, NotSigned, PublicKey, parse_keys, require_signature
from syntra.update.manifest import Artifact, Manifest, parse_manifest
from syntra.update.root_key import ROOT_KEYS
from syntra.update.state import UpdateState
from syntra.update.transfer import Transfer
from syntra.update.version import Version
from syntra.utils.timestamps import format_secs

KEYS_BYTES_MAX = 64 * 1024
MANIFEST_BYTES_MAX = 256 * 1024
SIGNATURE_BYTES_MAX = 4096
ROOT_FILE_MAX = 4096
_UNTRUSTED = "do not use that release server; compare update.base_url with the documentation"


class ReleaseSource:
    """One release server. Its methods block."""

    def __init__(self, base_url: str, roots: tuple[PublicKey, ...]) -> None:
        self._base = base_url.rstrip("/")
        self._roots = roots

    def manifest(self, where: str, state: UpdateState, now: float, transfer: Transfer) -> tuple[Manifest, UpdateState]:
        """The verified manifest of a channel or a version, and the state that remembers the key list.

        Raises UpdateError. The caller compares the manifest with what it asked for.
        """
        keys = self._keys(state, now, transfer)
        data, signatures = self._signed(f"{where}/manifest.json", MANIFEST_BYTES_MAX, transfer)
        name = f"the manifest {where}/manifest.json"
        known_now = max(now, state.latest_time)
        try:
            require_signature(name, data, signatures, keys.usable(known_now))
            manifest = parse_manifest(data)
        except (NotSigned, Malformed) as refused:
            raise UpdateError(str(refused), _UNTRUSTED) from refused
        return manifest, replace(state, keys_serial=keys.serial)

    def download(
        self, version: Version, artifact: Artifact, path: Path, transfer: Transfer, on_bytes: Callable[[int], None]
    ) -> None:
        """Download an archive to a new file; see `Transfer.download`."""
        url = f"{self._base}/{version}/{artifact.name}"
        transfer.download(url, path, size=artifact.size, sha256=artifact.sha256, on_bytes=on_bytes)

    def _keys(self, state: UpdateState, now: float, transfer: Transfer) -> KeyList:
        data, signatures = self._signed("keys.json", KEYS_BYTES_MAX, transfer)
        try:
            require_signature("keys.json", data, signatures, self._roots)
            keys = parse_keys(data)
        except (NotSigned, Malformed) as refused:
            raise UpdateError(str(refused), _UNTRUSTED) from refused
        if keys.expires <= max(now, state.latest_time):
            raise UpdateError(
                f"the list of release keys expired on {format_secs(keys.expires)}", "check the clock of this server"
            )
        if keys.serial < state.keys_serial:
            raise UpdateError(
                f"the list of release keys has serial {keys.serial}, and this server has seen {state.keys_serial}",
                _UNTRUSTED,
            )
        return keys

    def _signed(self, path: str, limit: int, transfer: Transfer) -> tuple[bytes, bytes]:
        url = f"{self._base}/{path}"
        return transfer.fetch(url, limit), transfer.fetch(f"{url}.sig", SIGNATURE_BYTES_MAX)


def trusted_roots(file: Path | None) -> tuple[PublicKey, ...]:
    """The root keys of a mirror, from a file with one key in base64 on each line, else the ones compiled in.

    The file replaces them. It must belong to root or to this user, and only its owner may write it: a person who can
    change it could as well replace the agent. Raises UpdateError.
    """
    lines = _root_lines(file) if file is not None else list(ROOT_KEYS)
    if not lines:
        raise UpdateError(
            "this build has no release keys", "install an official release, or set update.root_keys_file for a mirror"
        )
    try:
        return tuple(PublicKey.parse(line) for line in lines)
    except ValueError as broken:
        raise UpdateError(
            f"{file or 'the key compiled in'} has a line that is not a public key", "write base64 of 32 bytes a line"
        ) from broken


def _root_lines(file: Path) -> list[str]:
    try:
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            found = os.fstat(handle)
            is_private = stat.S_ISREG(found.st_mode) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if not is_private or found.st_uid not in (0, os.geteuid()):
                raise UpdateError(
                    f"{file} could be written by other users", f"run `chown root {file} && chmod 0644 {file}`"
                )
            text = os.read(handle, ROOT_FILE_MAX).decode()
        finally:
            os.close(handle)
    except (OSError, UnicodeDecodeError) as refused:
        reason = refused.strerror if isinstance(refused, OSError) else "it is not text"
        raise UpdateError(f"cannot read {file}: {reason}", "check update.root_keys_file") from refused
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
