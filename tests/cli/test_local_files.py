"""What `cp` writes of an archive from a container: nothing outside the destination."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from syntra.cli.local_files import Copied, pack, unpack


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    member.size = 4 if kind == tarfile.REGTYPE else 0
    return member


def archive_of(*members: tarfile.TarInfo) -> tarfile.TarFile:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    archive.seek(0)
    return tarfile.open(fileobj=archive, mode="r|")


@pytest.mark.parametrize(
    "members",
    [
        [entry("x/../../outside")],
        [entry("outside")],
        [entry("../outside")],
        [entry("/outside")],
        [entry("x/link", tarfile.SYMTYPE, "/"), entry("x/link/tmp/syntra-outside")],
        [entry("x", tarfile.SYMTYPE, "../.."), entry("x/outside")],
        [entry("x/link", tarfile.LNKTYPE, "x/../../outside")],
        [entry("x/link", tarfile.LNKTYPE, "outside")],
        [entry("x/device", tarfile.CHRTYPE)],
    ],
    ids=lambda members: " then ".join(one.name for one in members),
)
def test_an_archive_writes_nothing_outside_the_destination(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    into = tmp_path / "into"
    into.mkdir()
    (tmp_path / "outside").write_text("before")
    with archive_of(*members) as archive, pytest.raises(tarfile.FilterError):
        unpack(archive, "x", into, "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["into", "outside"]
    assert (tmp_path / "outside").read_text() == "before"
    assert not Path("/tmp/syntra-outside").exists()
    assert not any(path.is_symlink() for path in into.iterdir())


def test_the_content_of_a_folder_and_a_new_name(tmp_path: Path) -> None:
    members = [entry("./", tarfile.DIRTYPE), entry("./a"), entry("./b", tarfile.LNKTYPE, "./a")]
    members[0].mode = 0o755
    with archive_of(*members) as archive:
        assert unpack(archive, "", tmp_path, "new") == Copied(files=1, bytes=4)
    assert (tmp_path / "new" / "a").samefile(tmp_path / "new" / "b")


def test_what_is_packed_belongs_to_root_and_has_no_pipes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("four")
    (tmp_path / "a").chmod(0o640)
    os.mkfifo(tmp_path / "pipe")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w|") as archive:
        assert pack(archive, tmp_path, ".") == Copied(files=1, bytes=4)
    packed.seek(0)
    with tarfile.open(fileobj=packed) as archive:
        found = {one.name: (one.uid, one.gid, one.uname, one.mode & 0o777) for one in archive}
    assert found["./a"] == (0, 0, "", 0o640) and len(found) == 2
