"""The space on local file systems, and one that hangs."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from syntra.utils.file_systems import FileSystems

TABLE = """27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
60 27 8:1 / /hangs rw - xfs /dev/sdb rw
61 27 8:2 / /after rw - xfs /dev/sdc rw
62 27 8:3 / /gone rw - xfs /dev/sdd rw
"""


def test_the_root_has_the_space_that_df_shows() -> None:
    found = {one.mountpoint: one for one in FileSystems().read()}
    if "/" not in found:
        pytest.skip("the root is no local file system here")
    space, root = os.statvfs("/"), found["/"]
    assert root.total_bytes == space.f_blocks * space.f_frsize
    assert abs(root.free_bytes - space.f_bavail * space.f_frsize) < 1 << 30
    assert len({one.device for one in found.values()}) == len(found)


def test_one_that_hangs_costs_one_wait_and_comes_back(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(TABLE)
    asked: list[str] = []
    answers = threading.Event()

    def measure(path: str) -> os.statvfs_result:
        asked.append(path)
        if path == "/hangs":
            answers.wait()
        if path == "/gone":
            raise FileNotFoundError(path)
        return os.statvfs("/")

    systems = FileSystems(mountinfo=str(tmp_path / "mountinfo"), measure=measure, answer_secs=0.2)
    try:
        assert [one.mountpoint for one in systems.read()] == ["/"]
        assert systems.hung == {"8:1"}
        began = time.monotonic()
        assert [one.mountpoint for one in systems.read()] == ["/", "/after"]
        assert time.monotonic() - began < 0.2, "nothing waits for it again"
        assert asked.count("/hangs") == 1
    finally:
        answers.set()
    deadline = time.monotonic() + 10
    while len(systems.read()) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [one.mountpoint for one in systems.read()] == ["/", "/hangs", "/after"]
    assert systems.hung == frozenset()
