"""Readings from cgroup files of both versions, laid out in a directory as hosts have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from syntra.model.figures import ContainerReading
from syntra.model.ids import ContainerId
from syntra.runtime.docker.cgroup import CgroupReader
from tests.narrow import present

ONE = ContainerId("c1" * 32)
NET_DEV = """Inter-|   Receive                              |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo:  999       9    0    0    0     0          0         0   999       9    0    0    0     0       0          0
  eth0: 1156      14    0    1    0     0          0         0   780       7    0    0    0     0       0          0
eth1:7 1 0 0 0 0 0 0 8 1 0 0 0 0 0 0
"""
V1_CGROUP = f"""9:name=systemd:/docker/{ONE}
8:pids:/docker/{ONE}
7:blkio:/docker/{ONE}
4:memory:/docker/{ONE}
2:cpuacct:/docker/{ONE}
1:cpu:/docker/{ONE}
0::/docker/{ONE}
"""
V1 = {
    "cpuacct/cpuacct.usage": "330000\n",
    "cpuacct/cpuacct.usage_all": "cpu user system\n0 100000 10000\n1 200000 20000\n",
    "cpu/cpu.stat": "nr_periods 50\nnr_throttled 4\nthrottled_time 123000\nnr_bursts 0\nburst_time 0\n",
    "cpu/cpu.cfs_quota_us": "150000\n",
    "cpu/cpu.cfs_period_us": "100000\n",
    "memory/memory.usage_in_bytes": "1818624\n",
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "memory/memory.stat": "cache 7\ninactive_file 9\nhierarchical_memory_limit 67108864\ntotal_rss 114688\n"
    "total_pgfault 1273\ntotal_pgmajfault 3\ntotal_inactive_file 339968\ntotal_unevictable 0\n",
    "blkio/blkio.throttle.io_service_bytes_recursive": "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 12288\n"
    "8:0 Async 0\n8:0 Discard 0\n8:0 Total 12288\n8:16 Read 1\nTotal 12289\n",
    "pids/pids.current": "3\n",
    "pids/pids.max": "max\n",
}
V2 = {
    "cpu.stat": "usage_usec 330\nuser_usec 300\nsystem_usec 30\nnice_usec 0\ncore_sched.force_idle_usec 0\n"
    "nr_periods 50\nnr_throttled 4\nthrottled_usec 123\nnr_bursts 0\nburst_usec 0\n",
    "cpu.max": "150000 100000\n",
    "memory.current": "1818624\n",
    "memory.max": "67108864\n",
    "memory.events": "low 0\nhigh 0\nmax 12\noom 2\noom_kill 2\noom_group_kill 0\n",
    "memory.stat": "anon 114688\nfile 1339392\nkernel 364544\ninactive_anon 0\nactive_anon 106496\n"
    "inactive_file 339968\nactive_file 999424\npgfault 1273\npgmajfault 3\n",
    "io.stat": "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=0 rios=1 wios=0 "
    "dbytes=0 dios=0\n7:0 \n",
    "pids.current": "3\n",
    "pids.max": "max\n",
}
READ = ContainerReading(
    at_ns=0,
    cpu_ns=330_000,
    cpu_user_ns=300_000,
    cpu_system_ns=30_000,
    cpu_limit=1.5,
    periods=50,
    throttled_periods=4,
    throttled_ns=123000,
    memory_bytes=1818624,
    inactive_file_bytes=339968,
    rss_bytes=114688,
    memory_limit_bytes=67108864,
    minor_faults=1270,
    major_faults=3,
    oom_kills=2,
    disks={"sda": (4096, 8192), "8:16": (1, 0)},
    networks={"eth0": (1156, 780), "eth1": (7, 8)},
    pids=3,
)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def reader(root: Path, cgroup: str, net_dev: str = NET_DEV) -> CgroupReader:
    write(root / "proc/7/cgroup", cgroup)
    write(root / "proc/7/net/dev", net_dev)
    (root / "block").mkdir(exist_ok=True)
    (root / "block/8:0").symlink_to("../../devices/pci0/sda")
    return CgroupReader(root / "cgroup", root / "proc", root / "block")


def v1(root: Path, files: Mapping[str, str] = V1, mounts: Mapping[str, str] | None = None) -> CgroupReader:
    for name, content in files.items():
        controller, _, file = name.partition("/")
        write(root / f"cgroup/{(mounts or {}).get(controller, controller)}/docker/{ONE}/{file}", content)
    return reader(root, V1_CGROUP)


def v2(root: Path, files: Mapping[str, str] = V2, path: str = f"system.slice/docker-{ONE}.scope") -> CgroupReader:
    for name, content in files.items():
        write(root / f"cgroup/{path}/{name}", content)
    return reader(root, f"0::/{path}\n")


def read(found: CgroupReader) -> ContainerReading:
    return replace(present(found.read(ONE, 7)), at_ns=0)


@pytest.mark.parametrize("mount", [None, "cpu,cpuacct", "cpuacct,cpu"])
def test_version_1_is_read_under_every_mount_name(tmp_path: Path, mount: str | None) -> None:
    mounts = {"cpu": mount, "cpuacct": mount} if mount else {}
    assert read(v1(tmp_path, mounts=mounts)) == READ


@pytest.mark.parametrize(
    "path", [f"system.slice/docker-{ONE}.scope", f"docker/{ONE}", f"machine.slice/libpod-{ONE}.scope/container"]
)
def test_version_2_is_read_of_every_driver(tmp_path: Path, path: str) -> None:
    assert read(v2(tmp_path, path=path)) == READ


def test_the_unified_hierarchy_may_stand_beside_those_of_version_1(tmp_path: Path) -> None:
    for name, content in V2.items():
        write(tmp_path / f"cgroup/unified/docker/{ONE}/{name}", content)
    assert read(reader(tmp_path, f"1:name=systemd:/docker/{ONE}\n0::/docker/{ONE}\n")).cpu_ns == 330_000


def test_without_limits_there_are_none(tmp_path: Path) -> None:
    unlimited = {"cpu.max": "max 100000\n", "memory.max": "max\n"}
    found = read(v2(tmp_path / "2", V2 | unlimited))
    assert (found.cpu_limit, found.memory_limit_bytes, found.pids_limit) == (None, None, None)
    stat = V1["memory/memory.stat"].replace("67108864", "9223372036854771712")
    found = read(v1(tmp_path / "1", V1 | {"cpu/cpu.cfs_quota_us": "-1\n", "memory/memory.stat": stat}))
    assert (found.cpu_limit, found.memory_limit_bytes, found.pids_limit) == (None, None, None)


def test_controllers_that_the_host_has_not_enabled_leave_values_out(tmp_path: Path) -> None:
    kept = {name: V2[name] for name in ("cpu.stat", "memory.current", "memory.stat")}
    assert read(v2(tmp_path / "2", kept)) == replace(
        READ,
        cpu_limit=None,
        memory_limit_bytes=None,
        oom_kills=None,
        disks={},
        pids=0,
    )
    kept = {name: V1[name] for name in V1 if name.startswith("memory")} | {"cpuacct/cpuacct.usage": "77\n"}
    found = read(v1(tmp_path / "1", kept))
    assert (found.cpu_ns, found.cpu_user_ns, found.periods, found.pids) == (77, None, None, 0)


@pytest.mark.parametrize(
    "lines",
    [
        *("", "garbage\n", "0::/gone\n", f"0::/gone/{ONE}\n", f"0::/../../{ONE}\n"),
        *(f"2:cpuacct:/{ONE}\n3:memory:/{ONE}\n", "0::/system.slice/docker-another.scope\n"),
    ],
)
def test_what_is_missing_outside_or_another_gives_nothing(tmp_path: Path, lines: str) -> None:
    write(tmp_path / "cgroup/system.slice/docker-another.scope/cpu.stat", V2["cpu.stat"])
    assert reader(tmp_path, lines).read(ONE, 7) is None


def test_a_process_that_is_gone_gives_nothing(tmp_path: Path) -> None:
    assert CgroupReader(tmp_path, tmp_path).read(ONE, 7) is None
    assert CgroupReader(tmp_path, tmp_path).read(ONE, 0) is None


def test_a_container_that_ends_and_comes_back_is_found_again(tmp_path: Path) -> None:
    found = v2(tmp_path)
    assert found.read(ONE, 7) is not None
    group = tmp_path / f"cgroup/system.slice/docker-{ONE}.scope"
    group.rename(tmp_path / "away")
    assert found.read(ONE, 7) is None
    (tmp_path / "away").rename(group)
    assert found.read(ONE, 7) is not None
    (tmp_path / "proc/7").rename(tmp_path / "proc/8")
    assert found.read(ONE, 8) is not None
    found.keep(())
    assert found.read(ONE, 7) is None, "nothing is remembered of it"


def test_on_the_hosts_network_there_are_no_interfaces(tmp_path: Path) -> None:
    for pid in ("1", "7"):
        (tmp_path / f"proc/{pid}/ns").mkdir(parents=True)
        (tmp_path / f"proc/{pid}/ns/net").symlink_to("net:[4026531833]")
    assert read(v2(tmp_path)).networks == {}


def test_lists_longer_than_a_page_are_read_whole(tmp_path: Path) -> None:
    disks = "".join(f"8:{number} rbytes={number} wbytes=1 rios=1 wios=1 dbytes=0 dios=0\n" for number in range(1, 2000))
    assert len(read(v2(tmp_path, V2 | {"io.stat": disks})).disks) == 1999
