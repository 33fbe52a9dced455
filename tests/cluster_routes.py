"""The kinds of Traefik and of the Gateway API in a cluster, by their own definitions.

They come from the sources of the programs that the tests use, which the Go module cache has once these are built.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

from tests.cluster import Cluster
from tests.engine import missing

TRAEFIK = "github.com/traefik/traefik/v3@*/integration/fixtures/k8s/01-traefik-crd.yml"
GATEWAY_API = "sigs.k8s.io/gateway-api@*/config/crd/standard/gateway.networking.k8s.io_*s.yaml"
HTTP_ROUTES = GATEWAY_API.replace("*s.yaml", "httproutes.yaml")
_VALIDATION = "_vap_"


def definition(source: str) -> str:
    """The definitions of one source, as YAML. Skips, or fails in CI, without it."""
    found = [path for path in sorted(_modules().glob(source)) if _VALIDATION not in path.name]
    if not found:
        missing(f"no definitions of routes: {source} is not in the Go module cache")
    newest = found[-1].parent
    return "\n---\n".join(path.read_text() for path in found if path.parent == newest)


def install(cluster: Cluster, source: str) -> None:
    """Install the kinds of one source, and wait until the API server has them. They stay, as the cluster does."""
    applied = cluster.kubectl("apply", "--server-side", "-f", "-", "-o", "name", stdin=definition(source))
    cluster.kubectl("wait", "--for=condition=Established", *applied.split())


@functools.cache
def _modules() -> Path:
    asked = os.environ.get("GOMODCACHE")
    if asked:
        return Path(asked)
    go = shutil.which("go")
    if go is None:
        missing("no definitions of routes: no go on PATH says where its module cache is")
        raise AssertionError("cannot happen: `missing` does not return")
    return Path(subprocess.run([go, "env", "GOMODCACHE"], capture_output=True, text=True, check=True).stdout.strip())
