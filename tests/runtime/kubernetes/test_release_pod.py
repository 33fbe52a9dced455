"""The pod of a release command."""

from __future__ import annotations

import dataclasses

from syntra.model.ids import DeploymentId
from syntra.runtime.kubernetes.names import KIND, SERVICE, SLOT
from syntra.runtime.kubernetes.objects import items, label, text, value
from syntra.runtime.kubernetes.release_pod import RELEASE, release_pod
from tests.model.samples import deployment
from tests.runtime.kubernetes.rendering import CONTEXT, rendered

WANTED = deployment(release_command=("migrate", "--all"), port=8080)


def test_it_runs_the_command_once_from_the_same_image_with_the_same_environment() -> None:
    pod = release_pod(WANTED, CONTEXT)
    [container] = items(pod, "spec", "containers")
    [service] = items(rendered(WANTED).workload, "spec", "template", "spec", "containers")
    assert value(pod, "spec", "restartPolicy") == "Never"
    assert container["args"] == ["migrate", "--all"]
    assert (container["image"], container.get("envFrom")) == (service["image"], service.get("envFrom"))
    assert not {"ports", "readinessProbe", "startupProbe", "lifecycle"} & container.keys()


def test_no_service_and_no_deployment_selects_it() -> None:
    pod = release_pod(WANTED, CONTEXT)
    assert label(pod, SERVICE) and label(pod, KIND) == RELEASE
    assert label(pod, SLOT) == ""


def test_its_name_is_of_the_deployment_so_that_a_killed_agent_finds_it() -> None:
    name = text(release_pod(WANTED, CONTEXT), "metadata", "name")
    again = dataclasses.replace(WANTED, deployment_id=DeploymentId("dep-other"))
    assert name == text(release_pod(WANTED, CONTEXT), "metadata", "name")
    assert name != text(release_pod(again, CONTEXT), "metadata", "name")
