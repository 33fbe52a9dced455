"""A real Kubernetes of one node for tests, and kubectl to judge it from outside.

The program `cluster` that starts it is looked for in `shared/peers` beside the checkout or its folder, and its parts in
`$SYNTRA_PEERS` (by default in the user's cache). Without them tests are skipped with the reason; with `CI=true` they
fail. The cluster stays up after the tests, as the Docker engine does.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.engine import missing

ROOT = Path(__file__).resolve().parents[1]
STARTS_WITHIN_SECS = 180.0
CALL_SECS = 60.0


class Refused(Exception):
    """kubectl failed; the text is its standard error."""


class Cluster:
    """kubectl with the rights of an administrator."""

    def __init__(self, kubectl: Path, kubeconfig: Path, program: Path) -> None:
        self._kubectl = kubectl
        self._program = program
        self.kubeconfig = kubeconfig

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = CALL_SECS) -> str:
        """Standard output of one call; raises Refused."""
        ended = subprocess.run(
            [self._kubectl, "--kubeconfig", self.kubeconfig, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if ended.returncode != 0:
            raise Refused(ended.stderr.strip())
        return ended.stdout

    def get(self, *arguments: str) -> Any:
        """What `kubectl get` says, as JSON."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, objects: Sequence[object], *, dry_run: bool = False) -> list[Any]:
        """Server-side apply with strict validation, as the agent does it; the objects as the server has them."""
        body = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        flags = [
            "--server-side",
            "--force-conflicts",
            "--field-manager=syntra-agent",
            "--validate=strict",
            "-o",
            "json",
        ]
        answer = json.loads(
            self.kubectl("apply", *flags, *(["--dry-run=server"] if dry_run else []), "-f", "-", stdin=body)
        )
        return list(answer["items"]) if answer["kind"] == "List" else [answer]

    def kubeconfig_of(self, user: str) -> Path:
        """The kubeconfig of a user: `agent` and `viewer` have no rights until a test binds some."""
        ended = subprocess.run([self._program, "kubeconfig", user], capture_output=True, text=True, check=True)
        return Path(ended.stdout.strip())

    def load(self, image: Path) -> None:
        """Load an image, as `docker save` writes it."""
        subprocess.run([self._program, "load", image], capture_output=True, check=True, timeout=CALL_SECS)


def cluster_problem() -> str | None:
    """Why no cluster can be used here, or None. It need not run yet."""
    if _program() is None:
        return "there is no program `cluster` in ../shared/peers"
    lacking = [part for part in ("kube-apiserver", "kubelet", "kubectl") if not os.access(_peers() / part, os.X_OK)]
    if lacking:
        return f"{', '.join(lacking)} not in {_peers()}; run `../shared/peers/build kube`"
    return "a cluster needs root" if os.getuid() != 0 else None


def running_cluster() -> Cluster:
    """The cluster, started when it does not run. Skips, or fails in CI, where there is none."""
    reason = cluster_problem()
    program = _program()
    if reason is not None or program is None:
        missing(f"no Kubernetes: {reason}")
        raise AssertionError("cannot happen: `missing` does not return")
    # Several workers, and several runs, share it.
    with (Path(tempfile.gettempdir()) / "syntra-cluster.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Not by pipe: what it starts would keep that open.
        with tempfile.TemporaryFile("w+") as out:
            ended = subprocess.run(
                [program, "up"],
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                timeout=STARTS_WITHIN_SECS,
                check=False,
            )
            out.seek(0)
            said = out.read().strip()
    if ended.returncode != 0:
        pytest.fail(f"the cluster did not start: {said}", pytrace=False)
    return Cluster(_peers() / "kubectl", Path(said.splitlines()[-1]), program)


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """A real cluster, shared by all tests and left running."""
    return running_cluster()


@pytest.fixture
def cluster_token(cluster: Cluster) -> Iterator[str]:
    """A token for one test's objects: every namespace whose name contains it is deleted afterwards."""
    token = "t" + secrets.token_hex(6)
    try:
        yield token
    finally:
        found = [item["metadata"]["name"] for item in cluster.get("namespaces")["items"]]
        own = [name for name in found if token in name]
        if own:
            cluster.kubectl("delete", "namespace", "--wait=false", *own)


def _peers() -> Path:
    return Path(os.environ.get("SYNTRA_PEERS") or Path.home() / ".cache" / "syntra-peers")


def _program() -> Path | None:
    beside = (folder / "shared" / "peers" / "cluster" for folder in list(ROOT.parents)[:2])
    return next((path for path in beside if os.access(path, os.X_OK)), None)
