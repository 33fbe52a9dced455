"""The mount table, and the local file systems in it."""

from __future__ import annotations

from syntra.utils.mounts import local_once, mounts

TABLE = rb"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
42 27 254:0 /var/lib/docker /var/lib/docker rw,relatime shared:1 - ext4 /dev/vda rw
52 42 0:40 / /var/lib/docker/overlay2/4b/merged rw,relatime shared:2 - overlay overlay rw,lowerdir=/x
60 27 8:1 / /srv/with\040space\134\011 ro,relatime shared:3 master:2 - xfs /dev/sdb rw
61 27 8:1 / /srv/with\040space\134\011/longer rw - xfs /dev/sdb rw
62 27 0:50 / /net rw - nfs4 server:/export rw
63 27 0:51 / /auto rw - autofs systemd-1 rw
64 27 8:2 /sub /only/a/part rw - btrfs /dev/sdc rw
65 27 8:2 / /only/a/part/of/it/but/whole rw - btrfs /dev/sdc rw
"""


def test_each_local_file_system_is_taken_once_where_all_of_it_shows() -> None:
    found = {mount.source: mount for mount in local_once(mounts(TABLE))}
    assert {source: mount.mountpoint for source, mount in found.items()} == {
        "/dev/vda": "/",
        "/dev/sdb": "/srv/with space\\\t",
        "/dev/sdc": "/only/a/part/of/it/but/whole",
    }
    assert found["/dev/sdb"].is_read_only and not found["/dev/vda"].is_read_only


def test_lines_cut_anywhere_raise_nothing() -> None:
    for end in range(len(TABLE)):
        assert len(mounts(TABLE[:end])) <= 10
