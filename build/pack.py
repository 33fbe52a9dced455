"""Make one file of a folder: the launcher, the folder's files as a zstd stream, a trailer. build/launcher/ reads it."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import zstandard

MAGIC = b"SYNTRA\1\n"
TRAILER = struct.Struct("<8sQQQ96s")
HEAD = struct.Struct("<HHIQ")
SMALL, FAST = 22, 9
"""Levels of zstd: a minute for the smallest file, seconds for a file that a test uses."""


def files(folder: Path) -> Iterator[tuple[str, int, bytes]]:
    """Path, mode and content of every file, in a fixed order; nothing of the machine that made them."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield path.relative_to(folder).as_posix(), 0o755 if os.access(path, os.X_OK) else 0o644, path.read_bytes()


def stream(folder: Path) -> bytes:
    """The folder as the launcher reads it, not yet compressed."""
    records = bytearray()
    for name, mode, content in files(folder):
        encoded = name.encode()
        records += HEAD.pack(mode, len(encoded), 0, len(content)) + encoded + content
    return bytes(records + HEAD.pack(0, 0, 0, 0))


def compressed(content: bytes, level: int) -> bytes:
    """One frame with a checksum; the window spans 32 MB, which a start needs as memory while it unpacks."""
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, window_log=25, enable_ldm=level == SMALL, write_checksum=True
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(content)


def pack(launcher: Path, folder: Path, version: str, target: Path, *, level: int) -> str:
    """Write `target`; returns the name of the directory that it unpacks to, made from the content."""
    content = stream(folder)
    name = f"syntra-agent-{version}-{hashlib.sha256(content).hexdigest()[:16]}"
    packed, start = compressed(content, level), launcher.read_bytes()
    # What is mapped begins at a page more often than not; it costs nothing.
    start += bytes(-len(start) % 4096)
    trailer = TRAILER.pack(MAGIC, len(start), len(packed), len(content), name.encode())
    partial = target.with_name(target.name + ".partial")
    partial.write_bytes(start + packed + trailer)
    partial.chmod(0o755)
    partial.replace(target)
    return name
