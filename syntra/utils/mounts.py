"""Parses the mount table, and chooses the local file systems in it, each once. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from syntra.utils.frozen import frozen

# On block devices of the host. Network file systems may hang; tmpfs and overlay hold no space of their own; squashfs
# and iso9660 are always full.
LOCAL_TYPES = frozenset(
    {
        *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "reiserfs", "nilfs2", "vfat"),
        *("exfat", "ntfs", "ntfs3", "ufs", "hfsplus"),
    }
)
_ESCAPE = re.compile(rb"\\([0-7]{3})")


@frozen
class Mount:
    """One line of `/proc/self/mountinfo`."""

    device: str
    """The numbers of the file system's device, such as `8:1`."""
    root: str
    """The directory of the file system that is mounted; `/` unless it is a bind mount."""
    mountpoint: str
    kind: str
    """The type, such as `ext4`."""
    source: str
    is_read_only: bool


def mounts(mountinfo: bytes) -> list[Mount]:
    """Parse `/proc/self/mountinfo` (proc(5)). Lines of another form are left out."""
    found = []
    for line in mountinfo.split(b"\n"):
        before, dash, after = line.partition(b" - ")
        fields, behind = before.split(), after.split()
        if dash and len(fields) >= 6 and len(behind) >= 2:
            found.append(
                Mount(
                    device=fields[2].decode(),
                    root=_text(fields[3]),
                    mountpoint=_text(fields[4]),
                    kind=_text(behind[0]),
                    source=_text(behind[1]),
                    is_read_only=b"ro" in fields[5].split(b","),
                )
            )
    return found


def local_once(table: Iterable[Mount]) -> list[Mount]:
    """The local file systems, each at one of its mount points: the shortest one that shows all of it."""
    chosen: dict[str, Mount] = {}
    for mount in table:
        if mount.kind not in LOCAL_TYPES:
            continue
        known = chosen.get(mount.device)
        if known is None or _rank(mount) < _rank(known):
            chosen[mount.device] = mount
    return list(chosen.values())


def _rank(mount: Mount) -> tuple[bool, int]:
    return mount.root != "/", len(mount.mountpoint)


def _text(escaped: bytes) -> str:
    """The kernel writes space, tab, line end and backslash as octal numbers."""
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), escaped).decode("utf-8", "replace")
