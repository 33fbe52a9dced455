"""A user of the cluster who has only the rights that a test grants: a service account of the test's own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.cluster import Cluster

GROUP = "rbac.authorization.k8s.io"


class Account:
    """A service account in a namespace of its own, by its kubeconfig."""

    def __init__(self, cluster: Cluster, token: str, folder: Path) -> None:
        self.namespace = f"account-{token}"
        self._cluster = cluster
        self._role = token
        cluster.kubectl("create", "namespace", self.namespace)
        cluster.kubectl("create", "serviceaccount", "-n", self.namespace, "agent")
        credential = cluster.kubectl("create", "token", "-n", self.namespace, "agent").strip()
        config = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json"))
        config["users"] = [{"name": "agent", "user": {"token": credential}}]
        config["contexts"][0]["context"] |= {"user": "agent", "namespace": self.namespace}
        self.kubeconfig = folder / "account.conf"
        self.kubeconfig.write_text(json.dumps(config))

    def grant(self, rules: Sequence[Mapping[str, object]]) -> None:
        """Give it exactly these rules, in all namespaces."""
        about = {"apiVersion": f"{GROUP}/v1", "metadata": {"name": self._role}}
        self._cluster.apply(
            [
                {**about, "kind": "ClusterRole", "rules": [*rules]},
                {**about, "kind": "ClusterRoleBinding", **self._bound("ClusterRole")},
            ]
        )

    def grant_in(self, namespace: str, rules: Sequence[Mapping[str, object]]) -> None:
        """Give it exactly these rules in one namespace."""
        about = {"apiVersion": f"{GROUP}/v1", "metadata": {"name": self._role, "namespace": namespace}}
        self._cluster.apply(
            [{**about, "kind": "Role", "rules": [*rules]}, {**about, "kind": "RoleBinding", **self._bound("Role")}]
        )

    def _bound(self, kind: str) -> dict[str, object]:
        return {
            "roleRef": {"apiGroup": GROUP, "kind": kind, "name": self._role},
            "subjects": [{"kind": "ServiceAccount", "name": "agent", "namespace": self.namespace}],
        }

    def remove(self) -> None:
        """Take the rights back; the namespace ends with the test's other ones."""
        for kind in ("clusterrolebinding", "clusterrole"):
            self._cluster.kubectl("delete", kind, self._role, "--ignore-not-found")


@pytest.fixture
def account(cluster: Cluster, cluster_token: str, tmp_path: Path) -> Iterator[Account]:
    """A user without rights."""
    found = Account(cluster, cluster_token, tmp_path)
    try:
        yield found
    finally:
        found.remove()
