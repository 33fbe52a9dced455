"""The real Traefik as an image: its program with the libraries it loads, imported once per test session."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine import cleanup, new_token, progress, raw, require_engine
from tests.networking.real_traefik import program


@pytest.fixture(scope="session")
def traefik_image() -> Iterator[str]:
    """The reference of the image. It has a token of its own, under which it goes at the end of the session."""
    require_engine()
    path = Path(program())
    token = new_token()
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, file in {"traefik": path, **_libraries(path)}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = file.stat().st_size, 0o755
            with file.open("rb") as content:
                tar.addfile(entry, content)
    changes = ['ENTRYPOINT ["/traefik"]']
    query = {"fromSrc": "-", "repo": token, "tag": "v3", "changes": changes}
    kind = {"Content-Type": "application/x-tar"}
    try:
        progress(raw("POST", "/images/create", target.getvalue(), query=query, headers=kind, timeout=120))
        yield f"{token}:v3"
    finally:
        cleanup(token)


def _libraries(path: Path) -> dict[str, Path]:
    """What the program loads, by the path at which it looks for it; nothing for a static one."""
    listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
    found = re.findall(r"(?:=> |^\s+)(/\S+) \(0x", listed, re.MULTILINE)
    return {name.lstrip("/"): Path(name) for name in found}
