"""A real API server takes what is rendered, with strict validation, and sees no change in the same set again.

Kinds of Traefik and the Gateway API are validated by their own definitions, from the sources of the programs that the
tests use. They get another API group here, so that no other test finds Traefik in the cluster.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from syntra.model.container_options import ContainerOptions, ExtraHost, Tmpfs
from syntra.model.errors import InvalidField
from syntra.model.ids import ServiceId
from syntra.model.image import ImageRef
from syntra.model.spec import (
    Deployment,
    HealthKind,
    HealthSpec,
    RateLimit,
    RegistryAuth,
    Routing,
    Strategy,
    VolumeMount,
)
from syntra.runtime.kubernetes.names import Slot
from syntra.runtime.kubernetes.render import Rendered, Routes, check, slot_service, weighted
from tests.cluster import Cluster, Refused
from tests.cluster_routes import HTTP_ROUTES, TRAEFIK, definition
from tests.model.samples import DIGEST, deployment
from tests.runtime.kubernetes.rendering import CONTEXT, rendered

GROUPS = {"traefik.io": "traefik.syntra.test", "gateway.networking.k8s.io": "gateway.syntra.test"}


def health(kind: HealthKind, **changes: Any) -> HealthSpec:
    base = HealthSpec(
        kind=kind,
        path="/up?full=1",
        port=None,
        command=("/bin/sh", "-c", "test $$ -gt 1"),
        interval=0.1,
        timeout=2.5,
        retries=3,
        start_period=0.0,
    )
    return dataclasses.replace(base, **changes)


def mount(name: str, path: str, *, host_path: str | None = None, **around: bool) -> VolumeMount:
    return VolumeMount(
        name=name, host_path=host_path, container_path=path, read_only=around.pop("read_only", False), **around
    )


ROUTED = Routing(
    path_prefix="/api",
    strip_prefix=True,
    priority=42,
    sticky=True,
    response_headers=(("X-Frame-Options", "DENY"),),
    rate_limit=RateLimit(average=10, burst=20),
)
OPTIONS = ContainerOptions(
    entrypoint=("/bin/sh", "-c"),
    user="1000:1000",
    working_dir="/srv",
    init=True,
    stop_grace_secs=0.0,
    shm_bytes=64 << 20,
    tmpfs=(Tmpfs(path="/run", options="size=16m,mode=1777"), Tmpfs(path="/tmp")),
    extra_hosts=(
        ExtraHost(name="db", address="10.0.0.1"),
        ExtraHost(name="cache", address="10.0.0.1"),
        ExtraHost(name="v6", address="fd00::1"),
    ),
    read_only=True,
    cap_drop=("ALL", "NET_RAW"),
)
MOUNTS = (
    mount("data", "/data"),
    mount("data", "/again", read_only=True),
    mount("logs.d_1", "/logs"),
    mount("", "/etc/host", host_path="/etc"),
    mount("shared.claim", "/shared", external=True),
)

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "smallest": ({"port": None}, {}),
    "port": ({"port": 8080, "host_port": 30001}, {}),
    "odd names": (
        {"service_name": "9_Web.Shop", "service_id": ServiceId("svc/with space"), "internal_hostname": "web"},
        {"owner": "agent@" + "x" * 80, "slot": Slot.GREEN},
    ),
    "longest name": ({"service_name": "x" * 63}, {"slot": Slot.GREEN}),
    "digest": ({"image": ImageRef(registry="r.example:5000", repository="a/b", tag="_x-", digest=DIGEST)}, {}),
    "limits": ({"cpu_nanos": 10_000_001, "memory_bytes": 512 << 20}, {"cpu_request_fraction": 3.0}),
    "least limits": ({"cpu_nanos": 1, "memory_bytes": 6 << 20}, {"cpu_request_fraction": 0.0001}),
    "environment": ({"env": {"A": "1", "b.c-d": "$(A) $$ ü\n", "EMPTY": ""}}, {"otlp_endpoint": "http://agent:4318"}),
    "registry": ({}, {"auth": RegistryAuth(username="bot", password="s3cret")}),
    "registry that is known": ({}, {"pull_secret": "theirs"}),
    "volumes": ({"volumes": MOUNTS}, {"storage_class": "fast", "volume_bytes": 5}),
    "options": ({"options": OPTIONS, "command": ("echo $(A) $$",)}, {"sleep_action": False}),
    "http check": ({"health": health(HealthKind.HTTP, start_period=12.3, restart_unhealthy=True)}, {}),
    "tcp check": ({"health": health(HealthKind.TCP, port=9000, retries=100, interval=3600)}, {}),
    "exec check": ({"health": health(HealthKind.EXEC, start_period=3600), "port": None}, {"replicas": None}),
    "labels": ({"labels": {"team": "x", "a.example/b": "no value!", "": "", "kubernetes.io/x": "y"}}, {}),
    "ingress": (
        {"domains": ("a.example", "*.a.example"), "routing": Routing(path_prefix="/api")},
        {"routes": Routes.INGRESS, "ingress_class": "nginx"},
    ),
    "ingress route": (
        {"domains": ("a.example", "*.a.example"), "routing": ROUTED},
        {"routes": Routes.INGRESS_ROUTE, "entry_points": ("websecure",), "cert_resolver": "letsencrypt"},
    ),
    "plain ingress route": ({"domains": ("a.example",)}, {"routes": Routes.INGRESS_ROUTE}),
    "http route": (
        {
            "domains": tuple(f"{label}.example" for label in "abcdefghijklmnopqrstuvw"),
            "routing": dataclasses.replace(ROUTED, priority=None, sticky=False, rate_limit=None),
        },
        {"routes": Routes.HTTP_ROUTE, "gateway": "edge/main"},
    ),
}


@pytest.fixture(scope="module")
def definitions(cluster: Cluster) -> None:
    """The kinds of Traefik and the Gateway API, under the names of GROUPS."""
    for source in (TRAEFIK, HTTP_ROUTES):
        cluster.kubectl("apply", "--server-side", "-f", "-", stdin=renamed(definition(source)))
    names = [f"ingressroutes.{GROUPS['traefik.io']}", f"httproutes.{GROUPS['gateway.networking.k8s.io']}"]
    cluster.kubectl("wait", "--for=condition=Established", *(f"crd/{name}" for name in names))


def renamed(text: str) -> str:
    for group, other in GROUPS.items():
        text = text.replace(group, other)
    return text


def of_test(objects: tuple[Any, ...]) -> list[Any]:
    """The objects as the test applies them: with the groups of `definitions`."""
    found = json.loads(renamed(json.dumps(objects)))
    assert isinstance(found, list)
    return found


def case(name: str, token: str) -> tuple[Deployment, Rendered]:
    spec_of, around = CASES[name]
    wanted = deployment(project_name=token, **spec_of)
    check(wanted, around.get("routes", Routes.NONE), host_paths=True)
    return wanted, rendered(wanted, **around)


@pytest.mark.parametrize("name", CASES)
def test_the_api_takes_every_rendered_set(name: str, cluster: Cluster, cluster_token: str, definitions: None) -> None:
    _, found = case(name, cluster_token)
    cluster.apply([found.namespace])
    answers = cluster.apply(of_test(found.objects), dry_run=True)
    assert len(answers) == len(found.objects)
    made = next(answer for answer in answers if answer["kind"] == "Deployment")
    sent = json.loads(json.dumps(found.workload))
    container = sent["spec"]["template"]["spec"]["containers"][0]
    kept = made["spec"]["template"]["spec"]["containers"][0]
    # Nothing was dropped on the way.
    assert container.keys() <= kept.keys()
    assert sent["spec"]["template"]["spec"].keys() <= made["spec"]["template"]["spec"].keys()


def test_the_same_set_again_changes_nothing(cluster: Cluster, cluster_token: str) -> None:
    for name in ("limits", "options", "http check", "volumes", "environment"):
        _, found = case(name, cluster_token)
        first = cluster.apply(found.objects)
        second = cluster.apply(found.objects)
        for before, after in zip(first, second, strict=True):
            assert before["metadata"].get("generation") == after["metadata"].get("generation"), (name, before["kind"])


def test_a_deployment_changes_between_all_strategies(cluster: Cluster, cluster_token: str) -> None:
    """Fields of a rolling update must be gone when the type is Recreate."""
    for strategy in (Strategy.ROLLING, Strategy.INSTANT, Strategy.ROLLING):
        cluster.apply(rendered(deployment(project_name=cluster_token, strategy=strategy)).objects)
    found = cluster.get("deployment", "api", "-n", f"syntra-{cluster_token}")
    assert found["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }


def test_a_new_version_may_change_everything_but_its_selector(cluster: Cluster, cluster_token: str) -> None:
    for name in ("smallest", "port", "options", "http check", "registry", "exec check", "smallest"):
        _, found = case(name, cluster_token)
        cluster.apply(found.objects)


def test_another_environment_is_another_secret_and_the_old_one_cannot_change(
    cluster: Cluster, cluster_token: str
) -> None:
    first, second = (rendered(deployment(project_name=cluster_token, env={"A": text})) for text in "12")
    cluster.apply(first.objects)
    cluster.apply(second.objects)
    secrets = cluster.get("secrets", "-n", f"syntra-{cluster_token}")["items"]
    assert len(secrets) == 2
    changed = json.loads(json.dumps(first.supports[0]))
    changed["data"] = {"A": "eA=="}
    with pytest.raises(Refused, match="immutable"):
        cluster.apply([changed])


@pytest.mark.parametrize("name", ["ingress route", "http route"])
def test_the_api_takes_the_routes_of_a_canary(
    name: str, cluster: Cluster, cluster_token: str, definitions: None
) -> None:
    wanted, found = case(name, cluster_token)
    context = dataclasses.replace(CONTEXT, **CASES[name][1])
    cluster.apply([found.namespace])
    shares = weighted(found, wanted, Slot.BLUE, Slot.GREEN, 10, context)
    preview = slot_service(wanted, Slot.GREEN, context)
    cluster.apply(of_test((*found.objects, *shares, preview)), dry_run=True)


@pytest.mark.parametrize(
    ("spec_of", "field"),
    [
        ({"env": {"1BAD%": "1"}}, "config.env_vars"),
        ({"env": {"..a": "1"}}, "config.env_vars"),
        ({"env": {"BIG": "x" * (1024 * 1024 + 1)}}, "config.env_vars"),
        ({"options": ContainerOptions(user="4294967295")}, "config.user"),
        ({"options": ContainerOptions(shm_bytes=1, tmpfs=(Tmpfs(path="/dev/shm"),))}, "config.tmpfs"),
    ],
)
def test_what_is_refused_by_name_is_what_the_api_refuses(
    spec_of: dict[str, Any], field: str, cluster: Cluster, cluster_token: str
) -> None:
    wanted = deployment(project_name=cluster_token, **spec_of)
    with pytest.raises(InvalidField) as refusal:
        check(wanted, Routes.NONE, host_paths=True)
    assert refusal.value.field == field
    found = rendered(wanted)
    cluster.apply([found.namespace])
    with pytest.raises(Refused):
        cluster.apply(found.objects, dry_run=True)
