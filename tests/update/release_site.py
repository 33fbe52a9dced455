"""A release server on loopback for tests: real keys made on the spot, real archives, and faults on request."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from syntra.update.build_target import build_target
from syntra.update.keys import PublicKey
from syntra.update.manifest import Target, archive_name

DAY_SECS = 86_400
Answer = Callable[[BaseHTTPRequestHandler], None]


def public(key: Ed25519PrivateKey) -> PublicKey:
    return PublicKey(raw=key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def signature(data: bytes, *keys: Ed25519PrivateKey) -> bytes:
    lines = [f"{public(key).key_id} {base64.b64encode(key.sign(data)).decode()}\n" for key in keys]
    return "".join(lines).encode()


def moment(secs: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(secs))


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A .tar.gz of these members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def archive_of(program: bytes) -> bytes:
    """The archive of a release."""
    return archive((tarfile.TarInfo("syntra-agent"), program))


def stand_in(version: str, body: str = "sleep 3600") -> bytes:
    """A program that reports a version, accepts any configuration, and does `body` on `start`."""
    return (
        "#!/bin/sh\n"
        f"""case "$*" in *version*) echo '{{"version": "{version}"}}'; exit 0;; *'config check') exit 0;; esac\n"""
        f"{body}\n"
    ).encode()


class ReleaseSite:
    """Serves a dictionary of paths. `answers` replaces the answer to a path; `asked` has all requests."""

    def __init__(self) -> None:
        self.root_key, self.key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        self.files: dict[str, bytes] = {}
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.write_keys()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                if self.path in site.answers:
                    site.answers[self.path](self)
                    return
                data = site.files.get(self.path)
                self.send_response(200 if data is not None else 404)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                self.wfile.write(data or b"")

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: pytest shows `asked` where it matters."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def roots_file(self, folder: Path) -> Path:
        """The file for `update.root_keys_file`."""
        path = folder / "roots"
        path.write_text(f"# test\n{public(self.root_key).text}\n")
        path.chmod(0o644)
        return path

    def write_keys(
        self,
        *keys: Ed25519PrivateKey,
        serial: int = 1,
        days: float = 30,
        revoked: Sequence[str] = (),
        signed_by: Sequence[Ed25519PrivateKey] | None = None,
        **changes: Any,
    ) -> None:
        """Sign a list of release keys."""
        expires = moment(time.time() + days * DAY_SECS)
        document = {
            "schema": 1,
            "product": "syntra-agent",
            "serial": serial,
            "expires": expires,
            "keys": [{"public_key": public(key).text, "expires": expires} for key in keys or (self.key,)],
            "revoked": list(revoked),
            **changes,
        }
        data = json.dumps(document).encode()
        self.files["/keys.json"] = data
        self.files["/keys.json.sig"] = signature(data, *(signed_by or (self.root_key,)))

    def manifest(self, version: str, archives: Mapping[Target, bytes], **changes: Any) -> dict[str, Any]:
        """A manifest; `changes` replace its fields."""
        return {
            "schema": 1,
            "product": "syntra-agent",
            "version": version,
            "channel": "stable",
            "released": moment(time.time() - 60),
            "expires": moment(time.time() + 30 * DAY_SECS),
            "artifacts": [
                {
                    "name": archive_name(version, target),
                    "os": target.os,
                    "arch": target.arch,
                    "libc": target.libc,
                    "size": len(data),
                    "sha256": hashlib.sha256(data).hexdigest(),
                }
                for target, data in archives.items()
            ],
            **changes,
        }

    def publish(
        self,
        version: str,
        program: bytes,
        *,
        packed: bytes | None = None,
        target: Target | None = None,
        signed_by: Sequence[Ed25519PrivateKey] | None = None,
        **changes: Any,
    ) -> dict[str, Any]:
        """Release a version in its channel. Returns the manifest."""
        target = target or build_target()
        data = packed if packed is not None else archive_of(program)
        manifest = self.manifest(version, {target: data}, **changes)
        encoded = json.dumps(manifest).encode()
        for where in (version, manifest["channel"]):
            self.files[f"/{where}/manifest.json"] = encoded
            self.files[f"/{where}/manifest.json.sig"] = signature(encoded, *(signed_by or (self.key,)))
        self.files[f"/{version}/{archive_name(version, target)}"] = data
        return manifest

    def archive_path(self, version: str) -> str:
        """The path of the archive for this platform."""
        return f"/{version}/{archive_name(version, build_target())}"
