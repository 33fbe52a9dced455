"""`scripts/release-sign` makes a directory that the agent accepts, and that OpenSSL verifies."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from syntra.update import layout
from syntra.update.build_target import build_target
from syntra.update.updater import Installation, Updater
from tests.update.conftest import update
from tests.update.release_site import stand_in

SCRIPT = Path(__file__).parents[2] / "scripts/release-sign"


def sign(folder: Path, *words: str) -> str:
    """Run the script in a folder, with paths relative to it."""
    ended = subprocess.run([SCRIPT, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def test_a_signed_directory_updates_an_agent_and_openssl_agrees(root: Path, tmp_path: Path) -> None:
    _, root_public = sign(tmp_path, "new-key", "root.pem").split()
    _, public = sign(tmp_path, "new-key", "release.pem").split()
    assert (tmp_path / "root.pem").stat().st_mode & 0o777 == 0o600
    (tmp_path / "binary").write_bytes(stand_in("1.3.0"))
    sign(tmp_path, "keys", "--root-key", "root.pem", "--serial", "1", "site", public)
    sign(tmp_path, "pack", "--version", "1.3.0", "--target", str(build_target()), "site", "binary")
    sign(tmp_path, "release", "--key", "release.pem", "--version", "1.3.0", "--channel", "stable", "site")

    roots = tmp_path / "roots"
    roots.write_text(root_public + "\n")
    roots.chmod(0o644)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "site")))
    with server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        installation = Installation(root=root, running="1.2.0", target=build_target())
        assert update(Updater(installation, base_url=url, root_keys_file=roots)) == "1.3.0"
        server.shutdown()
    assert (layout.linked(root, "current"), layout.linked(root, "previous")) == ("1.3.0", "1.2.0")

    listed = json.loads((tmp_path / "site/keys.json").read_text())["keys"][0]["public_key"]
    pem = f"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA{listed}\n-----END PUBLIC KEY-----\n"
    (tmp_path / "key.pem").write_text(pem)
    manifest = tmp_path / "site/stable/manifest.json"
    encoded = manifest.with_name("manifest.json.sig").read_text().split()[1]
    (tmp_path / "signature").write_bytes(base64.b64decode(encoded))
    if shutil.which("openssl") is not None:
        command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin"]
        files = ["-in", str(manifest), "-sigfile", "signature"]
        ended = subprocess.run([*command, *files], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert "Verified Successfully" in ended.stdout, ended.stderr


def test_it_says_what_is_missing(tmp_path: Path) -> None:
    ended = subprocess.run(
        [SCRIPT, "release", "--key", "none.pem", "--version", "1.3.0", "--channel", "stable", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("scripts/release-sign: cannot release: no archives in 1.3.0")
