"""Reads the files of /proc and /sys, and parses the forms that many of them share.

Such a file is made by the kernel while it is read: it is small, touches no disk, and may give less than asked for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

_CHUNK = 65_536
# A read ends where the next record does not fit into the kernel's page, so one that gives less was the last.
_NEARLY_A_PAGE = 2048


def read_kernel_file(path: str) -> bytes:
    """The whole content. Raises OSError, as when the process or the cgroup is gone."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = last = os.read(descriptor, _CHUNK)
        while len(last) >= _NEARLY_A_PAGE:
            last = os.read(descriptor, _CHUNK)
            content += last
        return content
    finally:
        os.close(descriptor)


def keyed(content: bytes) -> dict[bytes, bytes]:
    """Parse lines of a name and one value. Values stay text: a file has dozens, and a reader wants a few."""
    words = content.split()
    return dict(zip(words[::2], words[1::2], strict=False))


def whole(values: Mapping[bytes, bytes], name: bytes) -> int | None:
    """A value that is a whole number; None when it is missing."""
    value = values.get(name, b"")
    return int(value) if value.isdigit() else None


def interfaces(content: bytes) -> dict[str, list[int]]:
    """Parse `net/dev`: 16 counters by interface, of which 0 to 7 are received and 8 to 15 sent (proc(5))."""
    found: dict[str, list[int]] = {}
    for line in content.split(b"\n")[2:]:
        # There may be no space behind the colon, and one in the name before it.
        name, colon, counters = line.rpartition(b":")
        if colon:
            found[name.strip().decode("utf-8", "replace")] = [int(value) for value in counters.split()]
    return found
