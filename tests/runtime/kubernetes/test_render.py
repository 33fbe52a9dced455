"""Rendered objects: names, labels, selectors, images, replicas, strategies and names for others."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest
from hypothesis import given

from syntra.model.ids import ServiceId
from syntra.model.image import ImageRef, ResolvedImage
from syntra.model.spec import Strategy, VolumeMount
from syntra.runtime.kubernetes import names
from syntra.runtime.kubernetes.names import Slot
from syntra.runtime.kubernetes.render import RenderContext, Routes, recreate_reason, render, slot_service
from syntra.runtime.kubernetes.resources import kind_of
from tests.model.samples import DIGEST, deployment, deployments, quick
from tests.runtime.kubernetes.rendering import CONTEXT, container, pod, rendered, workload

LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
DATA = VolumeMount(name="data", host_path=None, container_path="/data", read_only=False)


def metadata(obj: dict[str, Any]) -> dict[str, Any]:
    found = obj["metadata"]
    assert isinstance(found, dict)
    return found


def test_a_service_is_a_namespace_a_deployment_and_a_service() -> None:
    found = rendered()
    assert [obj["kind"] for obj in found.objects] == ["Namespace", "Deployment", "Service"]
    assert metadata(found.namespace)["name"] == "syntra-shop"
    assert [metadata(obj)["name"] for obj in found.objects[1:]] == ["api", "api"]
    assert {metadata(obj)["namespace"] for obj in found.objects[1:]} == {"syntra-shop"}
    assert found.notes == ()


def test_every_object_says_whose_it_is() -> None:
    wanted = deployment(env={"A": "1"}, volumes=(DATA,), domains=("a.example",))
    found = rendered(wanted, routes=Routes.INGRESS)
    labels = {
        "app.kubernetes.io/managed-by": "syntra-agent",
        "syntra.dev/owner": "agent-1",
        "syntra.dev/project": "shop",
        "app.kubernetes.io/part-of": "shop",
    }
    assert metadata(found.namespace)["labels"] == labels
    of_service = labels | {
        "syntra.dev/service-id": "svc_123",
        "app.kubernetes.io/name": "api",
        "app.kubernetes.io/instance": "svc_123",
        "app.kubernetes.io/version": "1",
    }
    for obj in found.objects[1:]:
        assert metadata(obj)["labels"].items() >= of_service.items(), obj["kind"]
        assert metadata(obj)["annotations"] == {"syntra.dev/service": "svc_123"}
    assert [obj["kind"] for obj in found.objects if "syntra.dev/slot" in metadata(obj).get("labels", {})] == [
        "Deployment",
        "Service",
    ]


@pytest.mark.parametrize("text", ["x" * 200, "ends-with-", "_begins", "with space", "ünïcode", "a/b"])
def test_an_id_that_is_no_label_value_is_labelled_by_its_digest(text: str) -> None:
    found = rendered(deployment(service_id=ServiceId(text), project_name="Shop_1"), owner=text)
    for obj in found.objects:
        for value in metadata(obj)["labels"].values():
            assert LABEL_VALUE.fullmatch(value), value
    assert metadata(found.workload)["annotations"]["syntra.dev/service"] == text


@pytest.mark.parametrize("name", ["Web_1", "1web", "a.b", "x" * 63, "web-", "9"])
def test_a_service_of_any_name_has_a_name_that_every_kubernetes_accepts(name: str) -> None:
    found = rendered(deployment(service_name=name), slot=Slot.GREEN)
    for obj in (found.workload, *found.services):
        assert names.is_dns_label(metadata(obj)["name"]), metadata(obj)["name"]
    assert len(metadata(found.workload)["name"]) <= 53  # pods get a suffix of up to 17 characters, and 63 at most


def test_a_name_that_no_service_can_have_is_said() -> None:
    (note,) = rendered(deployment(service_name="Web_1")).notes
    assert note.startswith("other services reach it as web-1-") and "Web_1 cannot be the name of a Service" in note


def test_the_selector_has_no_version_in_it() -> None:
    """A Deployment's selector is immutable."""
    before = workload(deployment("dep_1", image=ImageRef(registry="", repository="a", tag="1")))
    after = workload(deployment("dep_2", image=ImageRef(registry="", repository="a", tag="2"), labels={"x": "y"}))
    assert before["selector"] == after["selector"]
    assert after["selector"] == {"matchLabels": {"syntra.dev/service-id": "svc_123", "syntra.dev/slot": "blue"}}
    assert after["selector"]["matchLabels"].items() <= after["template"]["metadata"]["labels"].items()


def test_the_two_slots_select_different_pods() -> None:
    blue, green = rendered(slot=Slot.BLUE), rendered(slot=Slot.GREEN)
    assert metadata(green.workload)["name"] == "api-green"
    assert metadata(green.services[0])["name"] == metadata(blue.services[0])["name"] == "api"
    assert green.services[0]["spec"] != blue.services[0]["spec"]
    selected = green.services[0]["spec"]
    assert isinstance(selected, dict)
    assert selected["selector"] == {"syntra.dev/service-id": "svc_123", "syntra.dev/slot": "green"}


def test_the_deployment_is_an_annotation_of_the_pods_alone() -> None:
    """A ReplicaSet copies its own annotations from the Deployment at each rollback, but keeps its template's."""
    found = rendered(deployment("dep_9"))
    assert names.DEPLOYMENT_ID not in metadata(found.workload)["annotations"]
    template = workload(deployment("dep_9"), restarted_at="1700000000")["template"]["metadata"]
    assert template["annotations"] == {
        "syntra.dev/service": "svc_123",
        "syntra.dev/deployment-id": "dep_9",
        "syntra.dev/restarted-at": "1700000000",
    }


def test_labels_of_a_spec_are_labels_of_the_pods_as_far_as_they_can_be() -> None:
    own = {
        "team": "x",
        "example.com/owner": "a b",  # no label value
        "app.kubernetes.io/name": "other",  # the agent's
        "pod-template-hash": "1",  # the ReplicaSet's
        "container.apparmor.security.beta.kubernetes.io/service": "unconfined",
        "no/two/slashes": "1",
        "": "1",
    }
    template = workload(deployment(labels=own))["template"]["metadata"]
    assert template["labels"]["team"] == "x"
    assert template["labels"]["app.kubernetes.io/name"] == "api"
    assert template["annotations"]["example.com/owner"] == "a b"
    assert not {"pod-template-hash", "no/two/slashes", ""} & (template["labels"] | template["annotations"]).keys()
    assert not any("apparmor" in key for key in template["annotations"])
    (note,) = rendered(deployment(labels=own)).notes
    assert "no/two/slashes" in note and "pod-template-hash" in note and "team" not in note


@pytest.mark.parametrize(
    ("image", "resolved", "reference", "policy"),
    [
        (ImageRef(registry="r.example", repository="a", tag="1.2"), None, "r.example/a:1.2", "IfNotPresent"),
        (ImageRef(registry="", repository="a", tag="latest"), None, "a:latest", "Always"),
        (ImageRef(registry="", repository="a", tag="1", digest=DIGEST), None, f"a@{DIGEST}", "IfNotPresent"),
        (
            ImageRef(registry="", repository="a", tag="latest"),
            ResolvedImage(image_id="x", digest=DIGEST),
            f"a@{DIGEST}",
            "IfNotPresent",
        ),
        (ImageRef(registry="", repository="a", tag="1"), ResolvedImage(image_id="x"), "a:1", "IfNotPresent"),
    ],
)
def test_the_image_is_pinned_as_soon_as_its_digest_is_known(
    image: ImageRef, resolved: ResolvedImage | None, reference: str, policy: str
) -> None:
    found = container(dataclasses.replace(deployment(image=image), resolved=resolved))
    assert (found["image"], found["imagePullPolicy"]) == (reference, policy)


def test_the_version_of_an_image_by_digest_is_the_beginning_of_the_digest() -> None:
    image = ImageRef(registry="", repository="a", tag="1", digest=DIGEST)
    version = metadata(rendered(deployment(image=image)).workload)["labels"]["app.kubernetes.io/version"]
    assert version == DIGEST.replace(":", "-")[: len(version)] and len(version) == 47


def test_an_autoscaler_owns_the_number_of_replicas() -> None:
    assert workload(replicas=3)["replicas"] == 3
    assert workload(replicas=0)["replicas"] == 0
    assert "replicas" not in workload(replicas=None)


@pytest.mark.parametrize("strategy", [Strategy.ROLLING, Strategy.BLUE_GREEN, Strategy.CANARY])
def test_no_replica_stops_before_a_new_one_is_ready(strategy: Strategy) -> None:
    found = workload(deployment(strategy=strategy))["strategy"]
    assert found == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def test_instant_stops_the_old_pods_first() -> None:
    assert workload(deployment(strategy=Strategy.INSTANT))["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize(
    ("spec_of", "reason"),
    [
        ({"volumes": (DATA,)}, "volume data can be mounted on one node at a time"),
        ({"host_port": 8080}, "host port 8080 can be used by one replica of a node at a time"),
    ],
)
def test_what_two_pods_cannot_share_forces_instant_and_is_said(spec_of: dict[str, Any], reason: str) -> None:
    wanted = deployment(**spec_of)
    assert workload(wanted)["strategy"] == {"type": "Recreate"}
    assert rendered(wanted).notes == (f"instant: {reason}",)
    assert recreate_reason(wanted.spec) == reason
    assert rendered(deployment(strategy=Strategy.INSTANT, **spec_of)).notes == ()


def test_a_path_of_a_node_forces_nothing() -> None:
    bind = VolumeMount(name="", host_path="/srv", container_path="/data", read_only=False)
    assert workload(deployment(volumes=(bind,)))["strategy"]["type"] == "RollingUpdate"


@pytest.mark.parametrize(("timeout", "deadline"), [(300.0, 300), (0.5, 1), (1.2, 2)])
def test_the_progress_deadline_is_the_timeout_and_above_the_api_s_minimum(timeout: float, deadline: int) -> None:
    found = workload(dataclasses.replace(deployment(), timeout_secs=timeout))
    assert found["progressDeadlineSeconds"] == deadline
    assert found["revisionHistoryLimit"] == 10


def test_a_service_finds_the_port_by_its_name() -> None:
    """So that a new version may listen at another number while old pods still serve."""
    found = rendered(deployment(port=8080)).services[0]["spec"]
    assert found == {
        "type": "ClusterIP",
        "selector": {"syntra.dev/service-id": "svc_123", "syntra.dev/slot": "blue"},
        "ports": [{"name": "service", "port": 8080, "targetPort": "service", "protocol": "TCP"}],
    }
    assert container(deployment(port=8080))["ports"] == [{"name": "service", "containerPort": 8080, "protocol": "TCP"}]
    assert len(names.PORT_NAME) <= 15


def test_a_published_port_is_one_of_the_node() -> None:
    assert container(deployment(port=80, host_port=8443))["ports"][0]["hostPort"] == 8443


def test_without_a_port_there_is_no_service_and_nothing_to_drain() -> None:
    wanted = deployment(port=None)
    assert rendered(wanted).services == ()
    assert "ports" not in container(wanted) and "lifecycle" not in container(wanted)
    assert pod(wanted)["terminationGracePeriodSeconds"] == 10


def test_other_names_are_services_with_the_same_selector() -> None:
    long = "a-rather-long-name-for-a-service-of-the-shop-project"
    found = rendered(deployment(service_name=long, internal_hostname="web"))
    own, *others = found.services
    assert [metadata(obj)["name"] for obj in others] == [long, "web"]
    assert all(obj["spec"] == own["spec"] for obj in others)
    assert found.notes == ()


def test_a_hostname_with_dots_is_said_not_to_resolve() -> None:
    """Control planes send `<service>.<project>.internal` with every deploy."""
    found = rendered(deployment(internal_hostname="api.shop.internal"))
    assert len(found.services) == 1
    (note,) = found.notes
    assert note == "other services reach it as api: the cluster's DNS has no api.shop.internal, only names of Services"


def test_a_slot_has_a_service_of_its_own() -> None:
    blue, green = (slot_service(deployment(), slot, CONTEXT) for slot in Slot)
    assert {metadata(blue)["name"], metadata(green)["name"]}.isdisjoint({"api", "api-green", "api-blue"})
    assert metadata(blue)["name"] != metadata(green)["name"]
    assert blue["spec"] != green["spec"] and green["spec"]["selector"]["syntra.dev/slot"] == "green"  # type: ignore[index]


@quick
@given(deployments())
def test_any_deployment_renders_the_same_each_time_and_as_json(wanted: Any) -> None:
    context = RenderContext(owner="o", slot=Slot.GREEN, replicas=None, routes=Routes.INGRESS_ROUTE)
    try:
        found = render(wanted, context)
    except ValueError:
        # Only a user that is a name; `check` refuses it.
        assert not re.fullmatch(r"\d+(:\d+)?", wanted.spec.options.user or "")
        return
    assert json.dumps([*found.objects]) == json.dumps([*render(wanted, context).objects])
    for obj in found.objects:
        kind_of(obj)
        for value in metadata(obj)["labels"].values():
            assert LABEL_VALUE.fullmatch(value)
    keys = [(kind_of(obj), metadata(obj).get("namespace"), metadata(obj)["name"]) for obj in found.objects]
    assert len(set(keys)) == len(keys)
