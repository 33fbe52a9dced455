"""The verdict of a rollout: what kubectl says of its progress, and what pods, conditions and events say earlier."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.runtime.kubernetes.verdict import Done, Failed, Verdict, Waiting, judge
from tests.model.samples import quick
from tests.runtime.kubernetes.rollouts import (
    NOW,
    SINCE,
    Objects,
    at,
    crashed,
    done,
    event,
    pod,
    ready,
    replica_set,
    verdict,
    waiting,
    workload,
)

NOT_FOUND = (
    'rpc error: code = NotFound desc = failed to pull and unpack image "r.example/shop/api:2": '
    'failed to resolve reference "r.example/shop/api:2": r.example/shop/api:2: not found'
)
EXCEEDED = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}


def failed(found: Verdict, code: str) -> Failed:
    assert isinstance(found, Failed), found
    assert found.code == code
    return found


def said(found: Verdict) -> str:
    assert isinstance(found, Waiting), found
    return found.text


# Progress, as kubectl judges it


def test_all_replicas_of_the_deployment_are_available_and_no_other_is_left() -> None:
    assert verdict(done()) == Done()
    assert verdict(done(wanted=0)) == Done()
    one = done(wanted=1)
    del one["spec"]["replicas"]
    assert verdict(one) == Done()


def test_a_pod_that_crashed_since_the_counts_were_made_is_not_done() -> None:
    assert verdict(done(), pods=[ready("api-r2-a"), ready("api-r2-b")]) == Done()
    assert "exited with code 3" in said(verdict(done(), pods=[ready("api-r2-a"), crashed(1)]))


@pytest.mark.parametrize(
    "status",
    [
        {"observedGeneration": 1},
        {"updatedReplicas": 1},
        {"replicas": 3},
        {"availableReplicas": 1},
        {"availableReplicas": None},
    ],
)
def test_until_then_the_rollout_waits(status: Objects) -> None:
    assert isinstance(verdict(done(**status)), Waiting)


def test_the_status_of_the_deployment_before_is_not_this_one_s() -> None:
    assert "not taken" in said(verdict(done(), deployment_id="dep_3"))
    stale = done(observedGeneration=1, conditions=[EXCEEDED])
    assert "not begun" in said(verdict(stale, pods=[crashed(9)]))


def test_how_many_replicas_are_ready_is_said_with_the_words_of_one_that_is_not() -> None:
    pods = [ready("api-r2-a"), waiting("ContainerCreating")]
    assert said(verdict(pods=pods)) == "1/2 replicas are ready; api-r2-x: ContainerCreating"
    both = [ready("api-r2-a"), ready("api-r2-b")]
    old = workload(updatedReplicas=2)
    assert said(verdict(old, pods=both)) == "2/2 replicas are ready; 1 old one stops"


def test_the_progress_deadline_fails_with_what_the_pods_say() -> None:
    exceeded = workload(conditions=[EXCEEDED])
    running = pod(state={"running": {"startedAt": at(20)}}, ready=False)
    probe = event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503", first=2, last=1)
    found = failed(verdict(exceeded, pods=[running], events=[probe]), "HEALTH_CHECK_FAILED")
    assert "statuscode: 503" in found.sentence and found.pod == "api-r2-x"
    found = failed(verdict(exceeded, pods=[running]), "HEALTH_CHECK_FAILED")
    assert "not ready after 300 s" in found.sentence
    mounting = event("FailedMount", 'MountVolume.SetUp failed: secret "x" not found')
    found = failed(verdict(exceeded, pods=[waiting("ContainerCreating")], events=[mounting]), "START_FAILED")
    assert "api-r2-x is ContainerCreating" in found.sentence
    assert found.details == 'FailedMount: MountVolume.SetUp failed: secret "x" not found'
    assert failed(verdict(exceeded), "START_FAILED").pod == ""
    assert "exited with code 3" in failed(verdict(exceeded, pods=[crashed(1)]), "CONTAINER_CRASHED").sentence


# Images


@pytest.mark.parametrize("reason", ["InvalidImageName", "ErrImageNeverPull"])
def test_an_image_that_cannot_ever_be_pulled_fails_at_once(reason: str) -> None:
    found = failed(verdict(pods=[waiting(reason, "couldn't parse image name")], since=NOW), "PULL_FAILED")
    assert found.pod == "api-r2-x" and "couldn't parse image name" in found.sentence


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (NOT_FOUND, "check the image's name, tag or digest"),
        ("desc = pull access denied, repository does not exist or may require authorization", "credentials"),
        ("desc = failed to authorize: unexpected status: 401 Unauthorized", "credentials"),
        ("desc = no match for platform in manifest: not found", "platform"),
    ],
)
def test_a_pull_that_the_registry_refuses_fails_at_the_first_back_off(message: str, words: str) -> None:
    pulling = waiting("ErrImagePull", message, born=2)
    assert "ErrImagePull" in said(verdict(pods=[pulling], since=NOW - 2))
    backing_off = waiting("ImagePullBackOff", f'Back-off pulling image "x": ErrImagePull: {message}', born=2)
    found = failed(verdict(pods=[backing_off], since=NOW - 2), "PULL_FAILED")
    assert found.sentence.startswith("cannot pull r.example/shop/api:2: ") and words in found.sentence
    assert "rpc error" not in found.sentence


def test_before_1_32_only_the_event_says_why_a_pull_failed() -> None:
    backing_off = waiting("ImagePullBackOff", 'Back-off pulling image "r.example/shop/api:2"', born=2)
    events = [
        event("Failed", f'Failed to pull image "r.example/shop/api:2": {NOT_FOUND}', first=2),
        event("Failed", "Error: ErrImagePull", first=1, last=0),
    ]
    found = failed(verdict(pods=[backing_off], events=events, since=NOW - 2), "PULL_FAILED")
    assert "not found" in found.sentence and "Failed: Error: ErrImagePull" in found.details


@pytest.mark.parametrize("message", ["dial tcp: lookup r.example: no such host", "desc = i/o timeout", "something odd"])
def test_a_registry_that_does_not_answer_gets_a_minute(message: str) -> None:
    backing_off = waiting("ImagePullBackOff", message, born=200)
    early = event("Failed", f"Failed to pull image: desc = {message}", first=59)
    late = event("Failed", f"Failed to pull image: desc = {message}", first=60)
    assert "ImagePullBackOff" in said(verdict(pods=[backing_off], events=[early], since=NOW - 300))
    failed(verdict(pods=[backing_off], events=[late], since=NOW - 300), "PULL_FAILED")


def test_an_image_whose_name_has_the_searched_words_is_no_refusal() -> None:
    named = pod(state={"waiting": {"reason": "ImagePullBackOff", "message": "r/not found/x: i/o timeout"}}, born=2)
    named["status"]["containerStatuses"][0]["image"] = "r/not found/x:1"
    assert isinstance(verdict(pods=[named], since=NOW - 2), Waiting)


def test_an_init_container_counts() -> None:
    init = [{"name": "init", "image": "b", "state": {"waiting": {"reason": "InvalidImageName"}}}]
    failed(verdict(pods=[pod(init=init)]), "PULL_FAILED")


# Containers


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("CreateContainerConfigError", "CREATE_FAILED"),
        ("CreateContainerError", "CREATE_FAILED"),
        ("RunContainerError", "START_FAILED"),
    ],
)
def test_a_container_that_cannot_be_made_has_five_seconds_or_two_tries(reason: str, code: str) -> None:
    stuck = waiting(reason, 'secret "api-env-1" not found', born=90)
    first = event("Failed", 'Error: secret "api-env-1" not found', first=4)
    assert f"{reason}: secret" in said(verdict(pods=[stuck], events=[first]))
    twice = event("Failed", 'Error: secret "api-env-1" not found', first=4, count=2)
    found = failed(verdict(pods=[stuck], events=[twice]), code)
    assert 'secret "api-env-1" not found' in found.sentence
    later = event("Failed", 'Error: secret "api-env-1" not found', first=5)
    failed(verdict(pods=[stuck], events=[later]), code)
    failed(verdict(pods=[stuck]), code)  # its events are lost: its age counts
    assert isinstance(verdict(pods=[stuck], since=NOW - 4), Waiting)


def test_a_crash_loop_fails_at_the_third_exit() -> None:
    assert said(verdict(pods=[crashed(1)])).endswith("CrashLoopBackOff: exited with code 3, 1 restarts")
    events = [event("BackOff", "Back-off restarting failed container")]
    found = failed(verdict(pods=[crashed(2)], events=events), "CONTAINER_CRASHED")
    assert found.sentence == "api-r2-x: the container exited with code 3, 2 restarts; see its log"
    assert found.details == (
        "container service: last exit code 3: Error\nBackOff: Back-off restarting failed container"
    )


def test_a_crash_loop_counts_where_the_kubelet_shows_the_ended_run() -> None:
    """As Kubernetes 1.36 does for most of the time between two starts."""
    ended = {"terminated": {"reason": "Error", "exitCode": 3}}
    assert isinstance(verdict(pods=[pod(state=ended, lastState=ended, restartCount=1)]), Waiting)
    found = failed(verdict(pods=[pod(state=ended, lastState=ended, restartCount=2)]), "CONTAINER_CRASHED")
    assert "exited with code 3, 2 restarts" in found.sentence


def test_a_container_out_of_memory_twice_fails() -> None:
    assert isinstance(verdict(pods=[crashed(0, "OOMKilled", 137)]), Waiting)
    found = failed(verdict(pods=[crashed(1, "OOMKilled", 137)]), "CONTAINER_CRASHED")
    assert "more memory than its limit" in found.sentence and "raise the memory limit" in found.sentence
    now = pod(state={"terminated": {"reason": "OOMKilled", "exitCode": 137}}, restartCount=1)
    failed(verdict(pods=[now]), "CONTAINER_CRASHED")


def test_a_container_that_runs_again_is_not_in_a_crash_loop() -> None:
    last = {"terminated": {"reason": "Error", "exitCode": 3}}
    again = pod(state={"running": {"startedAt": at(1)}}, lastState=last, restartCount=5, ready=False)
    assert said(verdict(pods=[again])) == "0/2 replicas are ready; api-r2-x: running, not ready"


def test_a_command_that_the_image_does_not_have_fails_at_the_second_try() -> None:
    message = 'exec: "serve": executable file not found in $PATH: unknown'
    assert isinstance(verdict(pods=[crashed(0, "StartError", 128, message)]), Waiting)
    found = failed(verdict(pods=[crashed(1, "StartError", 128, message)]), "START_FAILED")
    assert message in found.sentence and "check command and entrypoint" in found.sentence


# Health


def test_readiness_fails_after_as_many_failures_as_it_may_have() -> None:
    """As on one machine, and not only at the deadline: here after 3 × 5 s."""
    running = pod(state={"running": {"startedAt": at(60)}}, ready=False)
    message = "Readiness probe failed: HTTP probe failed with statuscode: 404"
    early = event("Unhealthy", message, first=14, count=3)
    assert message in said(verdict(pods=[running], events=[early]))
    found = failed(verdict(pods=[running], events=[event("Unhealthy", message, first=15)]), "HEALTH_CHECK_FAILED")
    assert message in found.sentence and found.details == f"Unhealthy: {message}"


def test_failures_before_a_restart_and_of_a_ready_pod_do_not_count() -> None:
    message = "Readiness probe failed: connection refused"
    restarted = pod(state={"running": {"startedAt": at(2)}}, ready=False)
    assert isinstance(verdict(pods=[restarted], events=[event("Unhealthy", message, first=80, last=3)]), Waiting)
    assert isinstance(verdict(pods=[restarted], events=[event("Unhealthy", message, first=80, last=1)]), Waiting)
    well = ready("api-r2-x")
    assert isinstance(verdict(pods=[well], events=[event("Unhealthy", message, first=80)]), Waiting)


def test_a_start_that_takes_longer_than_its_period_fails() -> None:
    events = [
        event("Unhealthy", "Startup probe failed: connection refused", first=40, last=5),
        event("Killing", "Container service failed startup probe, will be restarted", kind="Normal", last=4),
    ]
    running = pod(state={"running": {"startedAt": at(3)}}, ready=False, restartCount=1)
    found = failed(verdict(pods=[running], events=events), "HEALTH_CHECK_FAILED")
    assert "Startup probe failed: connection refused" in found.sentence


# Scheduling and quotas


def unschedulable(secs: float) -> Objects:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient cpu.",
        "lastTransitionTime": at(secs),
    }
    return pod(conditions=[condition], born=secs)


def test_a_pod_that_no_node_takes_fails_after_a_minute() -> None:
    assert "1 Insufficient cpu" in said(verdict(pods=[unschedulable(59)]))
    found = failed(verdict(pods=[unschedulable(60)]), "START_FAILED")
    assert "1 Insufficient cpu" in found.sentence and "add a node" in found.sentence
    assert isinstance(verdict(pods=[unschedulable(300)], since=NOW - 59), Waiting)


def test_a_cluster_that_adds_a_node_gets_the_time_for_it() -> None:
    scaling = event("TriggeredScaleUp", "pod triggered scale-up", kind="Normal")
    assert isinstance(verdict(pods=[unschedulable(90)], events=[scaling]), Waiting)
    other = event("TriggeredScaleUp", "pod triggered scale-up", kind="Normal", about="other")
    failed(verdict(pods=[unschedulable(90)], events=[other]), "START_FAILED")


@pytest.mark.parametrize("place", ["deployment", "replica set"])
def test_a_quota_fails_after_ten_seconds_while_the_rollout_says_that_it_progresses(place: str) -> None:
    def found(secs: float) -> Verdict:
        refused = {
            "type": "ReplicaFailure",
            "status": "True",
            "reason": "FailedCreate",
            "message": 'pods "api-r2-x" is forbidden: exceeded quota: small',
            "lastTransitionTime": at(secs),
        }
        progressing = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetCreated"}
        own = [refused] if place == "deployment" else []
        newest = replica_set(conditions=[refused] if place == "replica set" else [])
        return verdict(workload(conditions=[progressing, *own]), replica_sets=[newest])

    assert isinstance(found(9), Waiting)
    assert "exceeded quota: small" in failed(found(10), "CREATE_FAILED").sentence


# Whose pods


def test_pods_of_other_replica_sets_and_deleted_ones_say_nothing() -> None:
    old = crashed(9, of="r1")
    gone = crashed(9, is_deleted=True)
    assert said(verdict(pods=[old, gone])) == "0/2 replicas are ready"


def test_a_restart_is_judged_by_its_own_replica_set() -> None:
    sets = [replica_set("r2", revision=2), replica_set("r3", revision=3, restarted_at="7")]
    restarted = workload(restarted_at="7")
    assert isinstance(verdict(restarted, replica_sets=sets, pods=[crashed(9, of="r2")]), Waiting)
    failed(verdict(restarted, replica_sets=sets, pods=[crashed(9, of="r3")]), "CONTAINER_CRASHED")


def test_a_replica_set_of_another_workload_with_the_same_deployment_is_not_this_one_s() -> None:
    other = replica_set("r2")
    other["metadata"]["ownerReferences"][0]["uid"] = "another"
    assert isinstance(verdict(replica_sets=[other], pods=[crashed(9)]), Waiting)


def test_a_final_trouble_wins_over_one_that_may_pass() -> None:
    pods = [unschedulable(1), crashed(3, name="api-r2-z")]
    assert failed(verdict(pods=pods), "CONTAINER_CRASHED").pod == "api-r2-z"


_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["metadata", "status", "spec", "name", "state", "conditions", "waiting", "type", "reason"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)
_objects = st.dictionaries(st.sampled_from(["metadata", "spec", "status"]), _json, max_size=3)


@quick
@given(_objects, st.lists(_objects, max_size=2))
def test_any_objects_have_a_verdict(odd: Objects, many: list[Objects]) -> None:
    found = judge(odd, many, many, many, now=NOW, since=SINCE, deployment_id="dep_2")
    assert isinstance(found, Waiting)
    assert not isinstance(judge(workload(), many, many, many, now=NOW, since=SINCE, deployment_id="dep_2"), Done)
