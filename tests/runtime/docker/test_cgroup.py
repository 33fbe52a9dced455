"""Figures from cgroup files of both versions, laid out in a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from syntra.runtime.docker.cgroup import CgroupFigures, CgroupReader


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def reader(root: Path, cgroup: str) -> CgroupReader:
    write(root / "proc/7/cgroup", cgroup)
    return CgroupReader(root / "cgroup", root / "proc")


@pytest.mark.parametrize("mount", ["cpuacct", "cpu,cpuacct", "cpuacct,cpu"])
def test_version_1_is_read_under_every_mount_name(tmp_path: Path, mount: str) -> None:
    write(tmp_path / f"cgroup/{mount}/docker/c1/cpuacct.usage", "123456\n")
    write(tmp_path / "cgroup/memory/docker/c1/memory.usage_in_bytes", "1000\n")
    write(tmp_path / "cgroup/memory/docker/c1/memory.stat", "cache 5\ntotal_inactive_file 300\n")
    lines = "4:memory:/docker/c1\n2:cpuacct,cpu:/docker/c1\n1:name=systemd:/docker/c1\n0::/\n"
    assert reader(tmp_path, lines).read(7) == CgroupFigures(cpu_usage_ns=123456, memory_bytes=700)


def test_version_2_is_read(tmp_path: Path) -> None:
    group = tmp_path / "cgroup/system.slice/docker-c1.scope"
    write(group / "cpu.stat", "usage_usec 12\nuser_usec 5\n")
    write(group / "memory.current", "1000\n")
    write(group / "memory.stat", "anon 5\ninactive_file 400\n")
    found = reader(tmp_path, "0::/system.slice/docker-c1.scope\n").read(7)
    assert found == CgroupFigures(cpu_usage_ns=12_000, memory_bytes=600)


@pytest.mark.parametrize("lines", ["", "garbage\n", "0::/gone\n", "0::/../../other\n", "2:cpuacct:/a\n3:memory:/a\n"])
def test_what_is_missing_or_outside_gives_nothing(tmp_path: Path, lines: str) -> None:
    (tmp_path / "cgroup").mkdir()
    assert reader(tmp_path, lines).read(7) is None


def test_a_process_that_is_gone_gives_nothing(tmp_path: Path) -> None:
    assert CgroupReader(tmp_path, tmp_path).read(7) is None
    assert CgroupReader(tmp_path, tmp_path).read(0) is None
