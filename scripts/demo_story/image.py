"""The image of the sample service: static busybox, without a base image."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from scripts.demo_story.errors import StoryFailed
from scripts.demo_story.runtime import PORT

SERVICE = """#!/bin/sh
trap 'kill $child $spans; exit 0' TERM INT
echo "{greeting}"
spans &
spans=$!
httpd {options} -p 8080 -h /www &
child=$!
wait $child
"""
SPANS = Path(__file__).with_name("spans.sh")


def sample_service(version: str, *, broken: bool) -> bytes:
    """A root file system as a tar: static busybox, and a web service that returns its version at `/`.

    A broken version says so, and has no `/health`.
    """
    busybox = shutil.which("busybox")
    if busybox is None:
        raise StoryFailed("there is no busybox to make an image of; install busybox-static")
    program = Path(busybox).read_bytes()
    # A dynamic program has its interpreter's path near the start (elf(5), PT_INTERP); the image has no interpreter.
    if re.search(rb"/ld-(linux|musl)", program[:4096]):
        raise StoryFailed(f"{busybox} is not static, and an image of it alone would not run; install busybox-static")
    greeting = f"{version} starts, but finds no settings" if broken else f"{version} starts"
    # -v logs each request; a broken version must end its log with its own message.
    options = "-f" if broken else "-f -v"
    files = {
        "bin/busybox": program,
        "bin/service": SERVICE.format(greeting=greeting, options=options).encode(),
        "bin/spans": SPANS.read_bytes(),
        "www/index.html": f"{version}\n".encode(),
        **({} if broken else {"www/health": b"ok\n"}),
    }
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755 if name.startswith("bin/") else 0o644
            tar.addfile(entry, io.BytesIO(content))
        for applet in sorted(set(applets) - {"busybox"}):
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return target.getvalue()


def archive(layers: Mapping[str, bytes]) -> bytes:
    """Images with one layer each, by reference, in one archive as `docker save` writes it."""
    files: dict[str, bytes] = {}
    manifest = []
    for number, (reference, layer) in enumerate(layers.items()):
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/bin/service"], "Env": ["PATH=/bin"], "ExposedPorts": {f"{PORT}/tcp": {}}},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
        files[f"{number}.tar"], files[f"{number}.json"] = layer, json.dumps(config).encode()
        manifest.append({"Config": f"{number}.json", "RepoTags": [reference], "Layers": [f"{number}.tar"]})
    files["manifest.json"] = json.dumps(manifest).encode()
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return target.getvalue()
