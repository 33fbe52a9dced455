"""The runtime contract, kept by a real cluster."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from syntra.model.ids import ServiceId
from syntra.model.image import ImageRef
from syntra.runtime.kubernetes.access import Access, Source
from syntra.runtime.kubernetes.client import KubernetesClient
from syntra.runtime.kubernetes.rights import rules
from syntra.runtime.kubernetes.runtime import KubernetesRuntime
from syntra.runtime.kubernetes.settings import KubernetesSettings
from tests.cluster_account import Account
from tests.runtime.kubernetes.kubeconfig import kubeconfig
from tests.runtime.runtime_contract import RuntimeContract, RuntimeRig
from tests.runtime.test_runtime_contract import deployments


class TestKubernetes(RuntimeContract):
    """Pods in a cluster. Each rig has a service of its own, in the namespace of the test."""

    @pytest.fixture(autouse=True)
    def parts(self, account: Account, cluster_token: str, cluster_images: str, tmp_path: Path) -> None:
        # With the agent's rights and no other, so that the ClusterRole has all that the runtime needs.
        account.grant(rules())
        self.kubeconfig = account.kubeconfig
        self.token = cluster_token
        registry, _, repository = cluster_images.partition("/")
        self.image = ImageRef(registry=registry, repository=repository, tag="v1")
        self.folder = tmp_path
        self.count = 0

    @asynccontextmanager
    async def open_rig(self) -> AsyncIterator[RuntimeRig]:
        self.count += 1
        settings = KubernetesSettings(scale_down_delay_secs=0.2, min_healthy_secs=0.3)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            nowhere = f"https://127.0.0.1:{taken.getsockname()[1]}"
        lost = kubeconfig(self.folder / "lost", nowhere)
        async with (
            KubernetesClient(await Access.open(Source(kubeconfig=str(self.kubeconfig)))) as client,
            KubernetesClient(await Access.open(Source(kubeconfig=str(lost)))) as away,
        ):
            project = f"{self.token}-{self.count}"
            service_id = ServiceId(f"svc-{project}")
            yield RuntimeRig(
                runtime=KubernetesRuntime(client, settings, owner=self.token),
                away=KubernetesRuntime(away, settings, owner=self.token),
                service_id=service_id,
                of=deployments(service_id, project, self.image),
                counts_pids=False,
                # The kubelet doubles its delay from 10 s, and a crash loop is three restarts.
                wait_secs=80.0,
            )

    @pytest.mark.soak  # more than a minute; `test_planner` does the same without a cluster
    async def test_planning_again_after_any_prefix_gives_the_rest(self) -> None:
        await super().test_planning_again_after_any_prefix_gives_the_rest()
