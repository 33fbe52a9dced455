"""Checks a downloaded release with the keys of this program: signatures, version, expiry, and the archive's hash.

scripts/install.sh has done the same with openssl where the machine has a version that knows Ed25519. Where it has not,
this check finds damage and mistakes; only TLS protects against an attacker who replaced the program itself.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from syntra.agent.config.files import FileProblem, read_small
from syntra.install.errors import InstallError
from syntra.update.errors import UpdateError
from syntra.update.fields import Malformed
from syntra.update.keys import NotSigned, parse_keys, require_signature
from syntra.update.manifest import ARCHIVE_MAX, Manifest, Target, archive_name, parse_manifest
from syntra.update.release_source import KEYS_BYTES_MAX, MANIFEST_BYTES_MAX, SIGNATURE_BYTES_MAX, trusted_roots

_AGAIN = "download the release again; do not use that release server if it repeats"


def check_release(folder: Path, *, version: str, target: Target, roots_file: Path | None, now: float) -> None:
    """Check keys.json, manifest.json and the archive in `folder`. Raises InstallError unless all belong together."""
    try:
        roots = trusted_roots(roots_file)
        keys_data, keys_signatures = _signed(folder, "keys.json", KEYS_BYTES_MAX)
        require_signature("keys.json", keys_data, keys_signatures, roots)
        keys = parse_keys(keys_data)
        data, signatures = _signed(folder, "manifest.json", MANIFEST_BYTES_MAX)
        require_signature("manifest.json", data, signatures, keys.usable(now))
        manifest = parse_manifest(data)
    except UpdateError as refused:
        raise _refused(refused.reason, refused.next_step) from refused
    except (NotSigned, Malformed) as refused:
        raise _refused(str(refused), "do not use that release server") from refused
    if min(keys.expires, manifest.expires) <= now:
        raise _refused("the release has expired", "check the clock of this machine, then download it again")
    if str(manifest.version) != version:
        raise _refused(f"the manifest is of version {manifest.version}, and this program is {version}", _AGAIN)
    _check_archive(folder, manifest, target)


def _check_archive(folder: Path, manifest: Manifest, target: Target) -> None:
    artifact = manifest.artifact_for(target)
    if artifact is None:
        raise _refused(f"the manifest has no archive for {target}", _AGAIN)
    path = folder / archive_name(str(manifest.version), target)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError as missing:
        raise _refused(f"cannot read {path}: {missing.strerror}", _AGAIN) from missing
    if (size, digest) != (artifact.size, artifact.sha256) or size > ARCHIVE_MAX:
        raise _refused(f"{path.name} differs from the manifest", _AGAIN)


def _signed(folder: Path, name: str, limit: int) -> tuple[bytes, bytes]:
    try:
        return (
            read_small(folder / name, limit=limit).data,
            read_small(folder / f"{name}.sig", limit=SIGNATURE_BYTES_MAX).data,
        )
    except FileProblem as problem:
        raise _refused(f"cannot read {name}: {problem}", _AGAIN) from problem


def _refused(reason: str, next_step: str) -> InstallError:
    return InstallError(f"cannot install the agent: {reason}; {next_step}")
