"""Collects the evidence for `detect`: asks the usual sockets and kubeconfigs, and remembers the choice.

Nothing is asked when the operator has named a runtime, so a start is as fast as without detection.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

from syntra.runtime.detect import (
    DOCKER_SOCKET,
    KUBECONFIGS,
    PODMAN_SOCKET,
    Choice,
    Evidence,
    Remembered,
    RuntimeKind,
    Seen,
    decide,
)
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.endpoint import Endpoint
from syntra.runtime.docker.errors import DockerError, EngineUnreachable
from syntra.utils import atomic_file

log = logging.getLogger(__name__)

ANSWER_SECS = 3.0
"""An engine that runs answers a ping in milliseconds."""
MEMORY_FILE = "runtime.json"

ClusterAnswers = Callable[[Path], Awaitable[bool]]
"""Whether the API server of a kubeconfig answers. Has a deadline of its own and raises nothing."""


class Wishes(Protocol):
    """The settings that name a runtime; empty where they do not."""

    @property
    def runtime_type(self) -> str:
        """`docker`, `kubernetes` or `auto`."""

    @property
    def docker_socket(self) -> str:
        """A path or a URL."""

    @property
    def kubernetes_config(self) -> Path | None:
        """A kubeconfig."""


async def find_runtime(
    wishes: Wishes,
    environ: Mapping[str, str],
    data_dir: Path,
    *,
    cluster_answers: ClusterAnswers | None = None,
    docker_socket: str = DOCKER_SOCKET,
    podman_socket: str = PODMAN_SOCKET,
    kubeconfigs: tuple[str, ...] = KUBECONFIGS,
    is_remembered: bool = True,
) -> Choice:
    """The runtime to use. Writes `runtime.json` in `data_dir` when one was found, unless `is_remembered` is false.

    Raises AgentError if it cannot write.

    Without `cluster_answers` no kubeconfig is tried that the operator did not name.
    """
    evidence = _named(wishes, environ)
    if wishes.runtime_type == "auto" and not (evidence.in_cluster or evidence.kubeconfig or evidence.engine):
        engines = await _engines(_sockets(environ, docker_socket, podman_socket))
        clusters: tuple[Seen, ...] = ()
        if cluster_answers is not None and not any(seen.answer for seen in engines):
            # Only now: asking a cluster takes memory that an agent on an engine does not need.
            clusters = await _clusters(environ, kubeconfigs, cluster_answers)
        evidence = Evidence(engines=engines, clusters=clusters, remembered=_remembered(data_dir / MEMORY_FILE))
    choice = decide(wishes.runtime_type, evidence)
    log.info("runtime chosen", extra={"runtime": choice.kind.value, "reason": choice.reason})
    if choice.is_found and is_remembered:
        _remember(data_dir / MEMORY_FILE, choice)
    return choice


def _named(wishes: Wishes, environ: Mapping[str, str]) -> Evidence:
    kubeconfig, host = environ.get("KUBECONFIG", ""), environ.get("DOCKER_HOST", "")
    return Evidence(
        in_cluster="KUBERNETES_SERVICE_HOST" in environ,
        kubeconfig=str(wishes.kubernetes_config or kubeconfig),
        kubeconfig_by="runtime.kubernetes_config" if wishes.kubernetes_config else "KUBECONFIG",
        engine=wishes.docker_socket or host,
        engine_by="runtime.docker_socket" if wishes.docker_socket else "DOCKER_HOST",
    )


def _sockets(environ: Mapping[str, str], docker: str, podman: str) -> list[str]:
    """The usual sockets; of several paths to one socket, as `podman-docker` makes them, the first."""
    own = environ.get("XDG_RUNTIME_DIR", "")
    paths = [docker, podman, *((f"{own}/docker.sock", f"{own}/podman/podman.sock") if own.startswith("/") else ())]
    return list({os.path.realpath(path): path for path in reversed(paths)}.values())[::-1]


async def _engines(paths: list[str]) -> tuple[Seen, ...]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_ask(path), name=f"ask {path}") for path in paths]
    return tuple(task.result() for task in tasks)


async def _ask(path: str) -> Seen:
    try:
        async with asyncio.timeout(ANSWER_SECS), EngineClient(Endpoint(path=path)) as client:
            return Seen(address=path, answer=(await client.product()).value.capitalize())
    except EngineUnreachable as away:
        return Seen(address=path, problem=away.reason)
    except TimeoutError:
        return Seen(address=path, problem=f"no answer within {ANSWER_SECS:g} s")
    except DockerError as failed:
        return Seen(address=path, problem=str(failed))


async def _clusters(
    environ: Mapping[str, str], kubeconfigs: tuple[str, ...], answers: ClusterAnswers
) -> tuple[Seen, ...]:
    home = environ.get("HOME", "")
    found = []
    for path in [*([f"{home}/.kube/config"] if home else []), *kubeconfigs]:
        if not await asyncio.to_thread(os.path.exists, path):
            found.append(Seen(address=path, problem="no such file"))
        elif await answers(Path(path)):
            found.append(Seen(address=path, answer="Kubernetes"))
        else:
            found.append(Seen(address=path, problem="its cluster does not answer"))
    return tuple(found)


def _remembered(path: Path) -> Remembered | None:
    try:
        told = json.loads(path.read_text())
        address = told["address"]
        kind = RuntimeKind(told["runtime"])
    except (OSError, ValueError, KeyError, TypeError):
        # Missing, or not as this module writes it: as if nothing were remembered.
        return None
    return Remembered(kind=kind, address=address, file=str(path)) if isinstance(address, str) and address else None


def _remember(path: Path, choice: Choice) -> None:
    before = _remembered(path)
    if before is None or (before.kind, before.address) != (choice.kind, choice.address):
        atomic_file.write(path, json.dumps({"runtime": choice.kind.value, "address": choice.address}).encode() + b"\n")
