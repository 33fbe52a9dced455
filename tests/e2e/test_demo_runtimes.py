"""`scripts/demo --runtime` tells its story on a cluster and on Podman, and leaves nothing behind there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cluster import Cluster, cluster
from tests.e2e.test_demo import STORY_SECS, demo, token_of
from tests.engine import missing
from tests.podman import podman_problem

__all__ = ["cluster"]

# Each takes about a minute and more on a busy machine.
pytestmark = [pytest.mark.engine, pytest.mark.soak, pytest.mark.timeout(STORY_SECS + 60)]

TOLD = (
    "deployed v1 with 2 replicas",
    "deployed v2, rolling",
    "refused v3, which is never healthy; v2 is untouched",
    'and what v3 wrote: "v3 starts, but finds no settings"',
    "scaled to 3",
    "logs, the last 2 lines",
    "exit status 7",
    "killed the agent with -9",
    "and finished: deployed: 3 replicas running",
    "rolled back to the first deployment",
    "numbered without a gap",
    "stopped and removed",
    "every step did what it says",
)


def processes_of(token: str) -> list[str]:
    """The commands of the demo's processes that still run."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if f"syntra-demo-{token}" in command:
            found.append(command)
    return found


def test_the_story_on_a_cluster(cluster: Cluster, tmp_path: Path) -> None:
    ended = demo(tmp_path, "--runtime", "kubernetes")
    told = ended.stdout
    assert ended.returncode == 0, told + ended.stderr
    assert [sentence for sentence in TOLD if sentence not in told] == [], told
    through = re.findall(r"(\d+) requests through the Service meanwhile.*, (\d+) failed", told)
    assert len(through) == 5, told
    assert all(int(total) > 0 and failed == "0" for total, failed in through), told
    token = token_of(told)
    names = [item["metadata"]["name"] for item in cluster.get("namespaces")["items"]]
    assert [name for name in names if token in name] == []
    assert processes_of(token) == []
    assert list(tmp_path.iterdir()) == []


def test_the_story_on_podman(tmp_path: Path) -> None:
    if reason := podman_problem():
        missing(reason)
    ended = demo(tmp_path, "--runtime", "podman")
    told = ended.stdout
    assert ended.returncode == 0, told + ended.stderr
    assert [sentence for sentence in TOLD if sentence not in told] == [], told
    assert processes_of(token_of(told)) == []
    assert list(tmp_path.iterdir()) == []
    mounts = Path("/proc/mounts").read_text()
    assert str(tmp_path) not in mounts
