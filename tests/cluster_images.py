"""Images for a cluster: the engine tests' service, as an archive that containerd imports, without a Docker engine."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.e2e import web_service
from tests.engine import PORT, busybox_tar

REPOSITORY = "registry.local/syntra-test"
VERSIONS = ("v1", "v2", "v3")
WEB_REPOSITORY = "registry.local/syntra-test-web"


def image(version: str) -> str:
    """The reference of a version."""
    return f"{REPOSITORY}:{version}"


def archive(
    versions: Sequence[str],
    *,
    repository: str = REPOSITORY,
    command: str = "/bin/service",
    files: Mapping[str, bytes] | None = None,
) -> bytes:
    """The images of these versions in one archive, as `docker save` writes it. They share their one layer."""
    layer = busybox_tar(files)
    diff = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    files = {"layer.tar": layer}
    manifest = []
    for version in versions:
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Cmd": [command],
                "Env": ["PATH=/bin", f"VERSION={version}"],
                "ExposedPorts": {f"{PORT}/tcp": {}},
            },
            "rootfs": {"type": "layers", "diff_ids": [diff]},
        }
        files[f"{version}.json"] = json.dumps(config).encode()
        manifest.append({"Config": f"{version}.json", "RepoTags": [f"{repository}:{version}"], "Layers": ["layer.tar"]})
    files["manifest.json"] = json.dumps(manifest).encode()
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, body in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            tar.addfile(entry, io.BytesIO(body))
    return target.getvalue()


def load_images(cluster: Cluster) -> None:
    """Load VERSIONS into the cluster."""
    _load(cluster, archive(VERSIONS))


def load_web_image(cluster: Cluster) -> str:
    """Load the service of the traffic tests; its reference."""
    files = {web_service.COMMAND.lstrip("/"): web_service.program().read_bytes()}
    _load(cluster, archive(["v1"], repository=WEB_REPOSITORY, command=web_service.COMMAND, files=files))
    return f"{WEB_REPOSITORY}:v1"


def _load(cluster: Cluster, images: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.tar"
        path.write_bytes(images)
        cluster.load(path)


@pytest.fixture(scope="session")
def cluster_images(cluster: Cluster) -> str:
    """The repository of VERSIONS, loaded into the cluster."""
    load_images(cluster)
    return REPOSITORY
