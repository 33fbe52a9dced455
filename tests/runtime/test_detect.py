"""The runtime is told from evidence, and what is named wins over what is merely there."""

from __future__ import annotations

import itertools

import pytest

from syntra.runtime.detect import Evidence, RuntimeKind, detect
from syntra.utils.errors import AgentError


def evidence(*, named: bool = False, socket: bool = False, pod: bool = False, cluster: bool = False) -> Evidence:
    return Evidence(engine_named=named, engine_socket=socket, in_cluster=pod, cluster_named=cluster)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (evidence(), RuntimeKind.DOCKER),
        (evidence(socket=True), RuntimeKind.DOCKER),
        (evidence(pod=True), RuntimeKind.KUBERNETES),
        (evidence(pod=True, socket=True), RuntimeKind.KUBERNETES),
        (evidence(pod=True, named=True), RuntimeKind.DOCKER),
        (evidence(cluster=True, socket=True), RuntimeKind.KUBERNETES),
    ],
)
def test_auto_follows_the_strongest_evidence(seen: Evidence, expected: RuntimeKind) -> None:
    assert detect("auto", seen) is expected


@pytest.mark.parametrize("configured", ["docker", "kubernetes"])
def test_a_configured_runtime_needs_no_evidence(configured: str) -> None:
    for named, socket, pod, cluster in itertools.product([False, True], repeat=4):
        seen = evidence(named=named, socket=socket, pod=pod, cluster=cluster)
        assert detect(configured, seen).value == configured


def test_two_named_runtimes_are_a_question_for_the_operator() -> None:
    with pytest.raises(AgentError, match=r"set runtime\.runtime_type"):
        detect("auto", evidence(named=True, cluster=True))
