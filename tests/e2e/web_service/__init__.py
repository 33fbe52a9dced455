"""The service behind the proxy in traffic tests, built once from `service.c`: HTTP, a slow answer, WebSocket echo.

busybox serves no websockets, and lets what it is doing end when it is stopped; this one ends hard, so that a drain that
is missing shows as failed requests.
"""

from __future__ import annotations

import functools
import hashlib
import os
import secrets
import shutil
import subprocess
from pathlib import Path

from tests.engine import PORT, busybox_tar, missing, progress, raw

SOURCE = Path(__file__).with_name("service.c")
COMMAND = "/bin/web"
BUILD_SECS = 120.0


@functools.cache
def program() -> Path:
    """The static program, kept in the user's cache under its source's digest. Skips or fails without a compiler."""
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "syntra-tests"
    built = kept / f"web-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}"
    if built.exists():
        return built
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        missing("no C compiler to build the traffic tests' service; install gcc and libc6-dev")
        raise AssertionError("cannot happen: `missing` does not return")
    kept.mkdir(parents=True, exist_ok=True)
    staged = kept / f".{secrets.token_hex(4)}"
    command = [compiler, "-O2", "-Wall", "-static", "-pthread", "-o", str(staged), str(SOURCE)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=BUILD_SECS)
    if ended.returncode != 0:
        missing(f"cannot build the traffic tests' service; install gcc and libc6-dev: {ended.stderr[-300:]}")
    staged.rename(built)
    return built


def image_tar() -> bytes:
    """The image's root file system: busybox and the service."""
    return busybox_tar({COMMAND.lstrip("/"): program().read_bytes()})


def instructions(version: str) -> list[str]:
    """What the Dockerfile would say."""
    return [f'CMD ["{COMMAND}"]', "ENV PATH=/bin", f"ENV VERSION={version}", f"EXPOSE {PORT}"]


def web_image(reference: str, version: str = "1") -> None:
    """Import the image as `repository:tag` into the shared engine; the reference should contain the test's token."""
    repository, _, tag = reference.rpartition(":")
    query = {"fromSrc": "-", "repo": repository, "tag": tag, "changes": instructions(version)}
    progress(raw("POST", "/images/create", image_tar(), query=query, headers={"Content-Type": "application/x-tar"}))
