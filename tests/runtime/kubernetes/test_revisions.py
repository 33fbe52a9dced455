"""Kept revisions, and rollbacks to them."""

from __future__ import annotations

import copy
import dataclasses
import random
from typing import Any

from syntra.model.spec import RegistryAuth
from syntra.runtime.kubernetes.garbage import needed_objects
from syntra.runtime.kubernetes.names import RESTARTED_AT, SLOT, Slot
from syntra.runtime.kubernetes.objects import Object, label, mapping, text
from syntra.runtime.kubernetes.revisions import (
    Kept,
    as_kept,
    kept,
    kept_objects,
    revision_secret,
    revision_secrets,
    revisions,
)
from tests.model.samples import deployment
from tests.runtime.kubernetes.rendering import rendered

WANTED = deployment(env={"TOKEN": "hunter2"})


def secret(number: int = 1, **around: Any) -> Object:
    made = rendered(WANTED, **around)
    found = revision_secret(number, WANTED, kept_objects(made), mapping(made.workload, "metadata"))
    assert found is not None
    return found


def test_a_revision_is_read_back_as_it_was_kept() -> None:
    read = kept(secret())
    assert read is not None and read.deployment == WANTED
    assert read.objects == kept_objects(rendered(WANTED))


def test_credentials_for_a_pull_are_not_kept() -> None:
    made = rendered(WANTED, auth=RegistryAuth(username="u", password="p"))
    assert [text(obj, "kind") for obj in made.supports].count("Secret") == 2
    assert [label(obj, "syntra.dev/kind") for obj in kept_objects(made)] == ["", "env"]


def test_what_was_changed_or_is_too_large_is_no_revision() -> None:
    for data in ("", "%%", "aGVsbG8="):
        broken = secret()
        mapping(broken, "data")["revision.json.gz"] = data
        assert kept(broken) is None
    huge: list[Object] = [{"kind": "Secret", "noise": random.Random(1).randbytes(700_000).hex()}]
    assert revision_secret(1, WANTED, huge, {}) is None


def test_revisions_are_ordered_by_number_and_others_are_none() -> None:
    found = revisions([secret(10), secret(9), {"kind": "Secret", "metadata": {"name": "env"}}])
    assert [one.number for one in found] == [9, 10]
    assert len(revision_secrets([secret(2), secret(1)])) == 2


def test_the_newest_revision_of_each_of_the_last_deployments_is_needed() -> None:
    """Rollbacks to and fro make newer revisions of the same two, and must not push out the others."""

    def of(number: int, deployment_id: str) -> Object:
        made = secret(number)
        mapping(made, "metadata", "annotations")["syntra.dev/deployment-id"] = deployment_id
        return made

    secrets = [of(number, f"d{number}") for number in range(1, 5)] + [of(5, "d3"), of(6, "d4"), of(7, "d3")]
    needed = needed_objects(rendered(WANTED), {"Secret": secrets}, [], keep_revisions=3)["Secret"]
    assert sorted(name[-1] for name in needed if "-rev-" in name) == ["2", "6", "7"]


def test_a_rollback_has_the_pods_as_they_were_not_as_they_would_be_rendered_today() -> None:
    before = rendered(WANTED, slot=Slot.BLUE)
    template = copy.deepcopy(mapping(before.workload, "spec", "template"))
    mapping(template, "spec")["terminationGracePeriodSeconds"] = 99
    old = {**before.workload, "spec": {**mapping(before.workload, "spec"), "template": template}}
    revision = Kept(deployment=WANTED, objects=(old, *kept_objects(before)[1:]))
    today = rendered(dataclasses.replace(WANTED, timeout_secs=7.0), slot=Slot.GREEN, replicas=5)
    found = as_kept(today, revision, Slot.GREEN)
    spec = mapping(found.workload, "spec")
    assert (
        spec["replicas"] == 5
        and spec["progressDeadlineSeconds"] == mapping(today.workload, "spec")["progressDeadlineSeconds"]
    )
    pods = mapping(spec, "template")
    assert mapping(pods, "spec")["terminationGracePeriodSeconds"] == 99
    assert text(pods, "metadata", "labels", SLOT) == "green", "the slot's selector selects them"
    assert mapping(old, "spec", "template", "metadata", "labels")[SLOT] == "blue", "the revision itself stays"
    assert kept_objects(before)[1] in found.supports


def test_in_the_same_slot_the_template_is_the_same_so_that_its_replica_set_is_used_again() -> None:
    before = rendered(WANTED)
    found = as_kept(before, Kept(deployment=WANTED, objects=kept_objects(before)), Slot.BLUE)
    assert found.workload["spec"] == before.workload["spec"]


def test_a_restart_since_then_is_a_restart_of_the_kept_pods_too() -> None:
    revision = Kept(deployment=WANTED, objects=kept_objects(rendered(WANTED)))
    found = as_kept(rendered(WANTED, restarted_at="17"), revision, Slot.BLUE)
    assert text(found.workload, "spec", "template", "metadata", "annotations", RESTARTED_AT) == "17"
