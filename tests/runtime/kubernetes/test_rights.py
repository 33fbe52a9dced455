"""What the agent's user may do: the ClusterRole has it, and what of it lacks is named, as a real API server decides."""

from __future__ import annotations

import json

from syntra.runtime.kubernetes.access import Access, Source
from syntra.runtime.kubernetes.client import KubernetesClient
from syntra.runtime.kubernetes.cluster import Cluster as ClusterObjects
from syntra.runtime.kubernetes.rights import RIGHTS, lacking, needed, review, rules
from syntra.runtime.kubernetes.rights_check import RightsCheck
from tests.cluster import Cluster
from tests.cluster_account import Account


def test_a_right_is_needed_only_where_the_cluster_has_what_it_is_for() -> None:
    def resources(*groups: str) -> set[str]:
        return {access.right.resource for access in needed(frozenset(groups))}

    assert {"nodes/proxy"} == resources() - resources("metrics.k8s.io")
    assert {"ingressroutes", "middlewares", "traefikservices"} == resources("traefik.io") - resources()
    assert {"httproutes"} == resources("gateway.networking.k8s.io") - resources()


def test_the_role_has_every_right_and_no_wildcard() -> None:
    assert [(rule["apiGroups"], rule["resources"], rule["verbs"]) for rule in rules()] == [
        ([right.group], [right.resource], [*right.verbs]) for right in RIGHTS
    ]
    assert "*" not in json.dumps(rules())


def test_a_review_asks_for_all_namespaces_except_for_the_lease() -> None:
    asked = {(access.right.resource, access.verb): review(access, "mine") for access in needed(frozenset())}

    def attributes(resource: str, verb: str) -> object:
        spec = asked[resource, verb]["spec"]
        assert isinstance(spec, dict)
        return spec["resourceAttributes"]

    assert attributes("pods/exec", "create") == {
        "group": "",
        "resource": "pods",
        "subresource": "exec",
        "verb": "create",
    }
    assert attributes("leases", "update") == {
        "group": "coordination.k8s.io",
        "resource": "leases",
        "verb": "update",
        "namespace": "mine",
    }


def test_what_lacks_is_one_sentence_with_a_next_step() -> None:
    missing = [access for access in needed(frozenset()) if access.right.resource in ("pods/exec", "replicasets")]
    assert lacking(missing) == (
        "the agent's user lacks: get/create pods/exec, list/watch replicasets; apply the ClusterRole that "
        "`syntra-agent install --kubernetes --print` shows, and bind it to this user"
    )
    assert lacking([]) == ""


def test_in_some_namespaces_only_each_is_asked_for_and_named() -> None:
    asked = needed(frozenset(), ("a", "b"))
    assert {access.right.resource for access in asked}.isdisjoint({"namespaces", "nodes/proxy"})
    spec = review(next(access for access in asked if access.namespace == "b"), "mine")["spec"]
    assert isinstance(spec, dict) and isinstance(spec["resourceAttributes"], dict)
    assert spec["resourceAttributes"]["namespace"] == "b"
    leases = [access for access in asked if access.right.resource == "leases"]
    assert [access.namespace for access in leases] == ["", "", ""]
    missing = [access for access in asked if access.right.resource in ("pods/log", "replicasets")]
    assert lacking(missing) == (
        "the agent's user lacks: get pods/log, list/watch replicasets in namespace a; get pods/log, list/watch "
        "replicasets in namespace b; apply the ClusterRole that `syntra-agent install --kubernetes --print` shows, and "
        "bind it to this user there"
    )


async def test_what_the_user_lacks_is_found_and_found_to_be_granted(account: Account) -> None:
    access = await Access.open(Source(kubeconfig=str(account.kubeconfig)))
    assert access.namespace == account.namespace
    async with KubernetesClient(access) as client:
        check = RightsCheck(client, ClusterObjects(client, owner="agent"), namespace=access.namespace)
        await check.check()
        groups = await ClusterObjects(client, owner="agent").groups()
        assert check.missing == needed(groups)

        most = [rule for rule in rules() if rule["resources"] != ["pods/log"]]
        account.grant(most)
        await check.check()
        assert check.warning.startswith("the agent's user lacks: get pods/log; ")

        account.grant(rules())
        await check.check()
        assert check.missing == ()


async def test_an_administrator_lacks_nothing_and_is_asked_once(cluster: Cluster, cluster_token: str) -> None:
    async with KubernetesClient(await Access.open(Source(kubeconfig=str(cluster.kubeconfig)))) as client:
        check = RightsCheck(client, ClusterObjects(client, owner=cluster_token), namespace="default")
        await check.check()
        assert (check.warning, client.calls) == ("", 1)
