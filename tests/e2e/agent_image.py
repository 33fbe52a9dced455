"""An image with the compiled agent, made without a builder: a file as `docker save` writes it."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tests.engine import missing

LOCALE = Path("/usr/lib/locale/C.utf8")
"""What the C library calls C.UTF-8, which the interpreter needs."""


def write_agent_image(file: Path, reference: str, program: Path) -> None:
    """Write an image with busybox, the C library and the agent as `syntra-agent` on its PATH."""
    layer = _tar([*_busybox(), *_c_library(), ("bin/syntra-agent", program.read_bytes())])
    configuration = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/syntra-agent", "start"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"]}]
    entries = [
        ("config.json", json.dumps(configuration).encode()),
        ("layer.tar", layer),
        ("manifest.json", json.dumps(manifest).encode()),
    ]
    file.write_bytes(_tar(entries))


def _busybox() -> Iterator[tuple[str, bytes]]:
    found = shutil.which("busybox")
    if found is None:
        missing("no busybox; install busybox-static")
    content = Path(str(found)).read_bytes()
    # Links would be as good; copies need no other kind of entry.
    return iter([("bin/busybox", content), ("bin/sh", content)])


def _c_library() -> Iterator[tuple[str, bytes]]:
    """The loader, the C library and its parts, and the locale."""
    listed = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    wanted: tuple[str, ...] = (
        "ld-linux-x86-64.so.2",
        "libc.so.6",
        "libm.so.6",
        "libpthread.so.0",
        "libdl.so.2",
        "librt.so.1",
        "libz.so.1",
    )
    wanted += ("libutil.so.1", "libresolv.so.2", "libnss_files.so.2", "libnss_dns.so.2", "libgcc_s.so.1")
    for line in listed.splitlines():
        name, _, path = line.strip().partition(" => ")
        if name.split(" ")[0] in wanted and "x86-64" in name:
            place = "lib64" if name.startswith("ld-linux") else "lib/x86_64-linux-gnu"
            yield f"{place}/{name.split(' ')[0]}", Path(path).read_bytes()
    for file in sorted(LOCALE.rglob("*")):
        if file.is_file():
            yield str(file).lstrip("/"), file.read_bytes()


def _tar(entries: list[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()
