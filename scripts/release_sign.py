"""Makes and signs a release directory: private keys, the list of release keys, archives, manifests.

Run by `scripts/release-sign`. Private keys are PEM files (PKCS #8) of mode 0600; keep the root keys offline.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import io
import json
import os
import sys
import tarfile
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from syntra.update.fields import PRODUCT, SCHEMA
from syntra.update.keys import PublicKey
from syntra.update.layout import PROGRAM
from syntra.update.manifest import CHANNELS, parse_manifest
from syntra.update.version import Version

DAY_SECS = 86_400


def new_key(path: Path) -> PublicKey:
    """Make a private key, readable by its owner only; an existing file is never replaced."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    return public_key(key)


def load_key(path: Path) -> Ed25519PrivateKey:
    """A private key that `new_key` made."""
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path} is not an Ed25519 private key")
    return key


def public_key(key: Ed25519PrivateKey) -> PublicKey:
    """The public half."""
    return PublicKey(raw=key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def write_signed(path: Path, document: dict[str, object], key: Ed25519PrivateKey) -> None:
    """Write a document and its signature file, the signature first, so that no moment has a wrong pair for long."""
    data = (json.dumps(document, indent=2) + "\n").encode()
    signature = base64.b64encode(key.sign(data)).decode()
    path.parent.mkdir(parents=True, exist_ok=True)
    for target, content in (
        (path.with_name(path.name + ".sig"), f"{public_key(key).key_id} {signature}\n".encode()),
        (path, data),
    ):
        temporary = target.with_name(target.name + ".new")
        temporary.write_bytes(content)
        temporary.replace(target)


def moment(secs: float) -> str:
    """RFC 3339, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(secs))


def write_keys(args: argparse.Namespace) -> None:
    """keys.json: every given key may sign for as long as the list is valid."""
    expires = moment(time.time() + args.days * DAY_SECS)
    keys = [{"id": key.key_id, "public_key": key.text, "expires": expires} for key in map(PublicKey.parse, args.public)]
    document = {
        "schema": SCHEMA,
        "product": PRODUCT,
        "serial": args.serial,
        "expires": expires,
        "keys": keys,
        "revoked": args.revoke,
    }
    write_signed(args.directory / "keys.json", document, load_key(args.root_key))


def pack(args: argparse.Namespace) -> None:
    """An archive with the one member. The same binary gives the same bytes: no owner, no times."""
    folder = args.directory / str(Version.parse(args.version))
    folder.mkdir(parents=True, exist_ok=True)
    data = args.binary.read_bytes()
    member = tarfile.TarInfo(PROGRAM)
    member.size, member.mode = len(data), 0o755
    path = folder / f"syntra-agent-{args.version}-{args.target}.tar.gz"
    with (
        path.open("wb") as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0, compresslevel=6) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        tar.addfile(member, io.BytesIO(data))


def write_release(args: argparse.Namespace) -> None:
    """The manifest of all archives of the version, in the directories of the version and of the channel."""
    version = str(Version.parse(args.version))
    now = time.time()
    document: dict[str, object] = {
        "schema": SCHEMA,
        "product": PRODUCT,
        "version": version,
        "channel": args.channel,
        "released": moment(now),
        "expires": moment(now + args.days * DAY_SECS),
        "artifacts": [_artifact(path, version) for path in sorted((args.directory / version).glob("*.tar.gz"))],
    }
    if not document["artifacts"]:
        raise ValueError(f"no archives in {args.directory / version}")
    parse_manifest(json.dumps(document).encode())
    key = load_key(args.key)
    for where in (version, args.channel):
        write_signed(args.directory / where / "manifest.json", document, key)


def _artifact(path: Path, version: str) -> dict[str, object]:
    triple = path.name.removeprefix(f"syntra-agent-{version}-").removesuffix(".tar.gz")
    arch, _, system, libc = triple.split("-")
    data = path.read_bytes()
    return {
        "name": path.name,
        "os": system,
        "arch": arch,
        "libc": libc,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/release-sign")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("new-key")
    verb.add_argument("file", type=Path)
    verb = verbs.add_parser("keys")
    verb.add_argument("--root-key", type=Path, required=True)
    verb.add_argument("--serial", type=int, required=True)
    verb.add_argument("--days", type=float, default=365)
    verb.add_argument("--revoke", action="append", default=[], metavar="ID")
    verb.add_argument("directory", type=Path)
    verb.add_argument("public", nargs="+", metavar="PUBLIC_KEY")
    verb = verbs.add_parser("pack")
    verb.add_argument("--version", required=True)
    verb.add_argument("--target", required=True)
    verb.add_argument("directory", type=Path)
    verb.add_argument("binary", type=Path)
    verb = verbs.add_parser("release")
    verb.add_argument("--key", type=Path, required=True)
    verb.add_argument("--version", required=True)
    verb.add_argument("--channel", choices=CHANNELS, required=True)
    verb.add_argument("--days", type=float, default=90)
    verb.add_argument("directory", type=Path)
    args = parser.parse_args(words)
    try:
        match args.verb:
            case "new-key":
                made = new_key(args.file)
                print(f"{made.key_id} {made.text}")
            case "keys":
                write_keys(args)
            case "pack":
                pack(args)
            case _:
                write_release(args)
    except (OSError, ValueError) as failed:
        sys.stderr.write(f"scripts/release-sign: cannot {args.verb}: {failed}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
