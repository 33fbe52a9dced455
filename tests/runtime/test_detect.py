"""The runtime follows from what is named, what ran before and what answers, in this order."""

from __future__ import annotations

import pytest

from syntra.runtime.detect import DOCKER_SOCKET, PODMAN_SOCKET, Choice, Evidence, Remembered, RuntimeKind, Seen, decide

DOCKER = Seen(address=DOCKER_SOCKET, answer="Docker")
PODMAN = Seen(address=PODMAN_SOCKET, answer="Podman")
NO_DOCKER = Seen(address=DOCKER_SOCKET, problem="No such file or directory")
NO_PODMAN = Seen(address=PODMAN_SOCKET, problem="Permission denied")
K3S = Seen(address="/etc/rancher/k3s/k3s.yaml", answer="Kubernetes")
FILE = "/var/lib/syntra/runtime.json"


def before(kind: RuntimeKind, address: str) -> Remembered:
    return Remembered(kind=kind, address=address, file=FILE)


def auto(evidence: Evidence) -> tuple[RuntimeKind, str]:
    choice = decide("auto", evidence)
    assert choice.reason
    return choice.kind, choice.address


@pytest.mark.parametrize(
    ("evidence", "kind", "address"),
    [
        (Evidence(in_cluster=True), RuntimeKind.KUBERNETES, ""),
        (Evidence(in_cluster=True, engine="/x.sock", engine_by="runtime.docker_socket"), RuntimeKind.KUBERNETES, ""),
        (Evidence(kubeconfig="/kube", kubeconfig_by="KUBECONFIG"), RuntimeKind.KUBERNETES, ""),
        (Evidence(kubeconfig="/k", kubeconfig_by="runtime.kubernetes_config"), RuntimeKind.KUBERNETES, "/k"),
        (Evidence(engine="/x.sock", engine_by="runtime.docker_socket"), RuntimeKind.DOCKER, "/x.sock"),
        (Evidence(engine="tcp://h:1", engine_by="DOCKER_HOST"), RuntimeKind.DOCKER, ""),
        (Evidence(engines=(DOCKER, NO_PODMAN)), RuntimeKind.DOCKER, DOCKER_SOCKET),
        (Evidence(engines=(DOCKER, PODMAN)), RuntimeKind.DOCKER, DOCKER_SOCKET),
        (Evidence(engines=(NO_DOCKER, PODMAN), clusters=(K3S,)), RuntimeKind.DOCKER, PODMAN_SOCKET),
        (Evidence(engines=(NO_DOCKER, NO_PODMAN), clusters=(K3S,)), RuntimeKind.KUBERNETES, K3S.address),
        (Evidence(engines=(NO_DOCKER, NO_PODMAN)), RuntimeKind.DOCKER, DOCKER_SOCKET),
    ],
)
def test_the_order_is_that_of_the_documents(evidence: Evidence, kind: RuntimeKind, address: str) -> None:
    assert auto(evidence) == (kind, address)


@pytest.mark.parametrize("configured", ["docker", "kubernetes"])
def test_a_configured_runtime_needs_no_evidence(configured: str) -> None:
    for evidence in (
        Evidence(in_cluster=True),
        Evidence(engines=(DOCKER, PODMAN), clusters=(K3S,)),
        Evidence(remembered=before(RuntimeKind.KUBERNETES, "/kube")),
    ):
        choice = decide(configured, evidence)
        assert (choice.kind.value, choice.warnings) == (configured, ())
        assert choice.reason == f"runtime.runtime_type is {configured}"


def test_one_runtime_is_no_reason_to_warn() -> None:
    for evidence in (
        Evidence(in_cluster=True),
        Evidence(engine="/x.sock", engine_by="runtime.docker_socket"),
        Evidence(engines=(NO_DOCKER, PODMAN)),
        Evidence(engines=(NO_DOCKER, PODMAN), remembered=before(RuntimeKind.DOCKER, PODMAN_SOCKET)),
    ):
        assert decide("auto", evidence).warnings == ()


def test_of_several_the_first_is_used_and_all_are_said() -> None:
    [warning] = decide("auto", Evidence(engines=(DOCKER, PODMAN))).warnings
    assert f"Docker answers at {DOCKER_SOCKET}, which is used" in warning
    assert f"but Podman answers at {PODMAN_SOCKET}" in warning
    assert "set runtime.runtime_type" in warning
    both = Evidence(
        kubeconfig="/kube", kubeconfig_by="runtime.kubernetes_config", engine="/x", engine_by="runtime.docker_socket"
    )
    [warning] = decide("auto", both).warnings
    assert "runtime.kubernetes_config names a cluster, which is used; but runtime.docker_socket names" in warning


def test_an_engine_that_is_late_is_waited_for_although_another_answers() -> None:
    late = Evidence(engines=(NO_DOCKER, PODMAN), remembered=before(RuntimeKind.DOCKER, DOCKER_SOCKET))
    choice = decide("auto", late)
    assert (choice.address, choice.is_found) == (DOCKER_SOCKET, False)
    assert FILE in choice.reason
    [warning] = choice.warnings
    assert warning.startswith(f"the agent waits for {DOCKER_SOCKET}")
    assert f"remove {FILE}" in warning


def test_what_the_agent_ran_on_is_kept_when_another_is_added() -> None:
    for first, second in ((DOCKER, PODMAN), (PODMAN, DOCKER)):
        evidence = Evidence(engines=(DOCKER, PODMAN), remembered=before(RuntimeKind.DOCKER, first.address))
        choice = decide("auto", evidence)
        assert (choice.address, choice.is_found) == (first.address, True)
        [warning] = choice.warnings
        assert f"{second.answer} answers at {second.address}" in warning


def test_what_is_named_wins_over_what_ran_before() -> None:
    named = Evidence(
        engine="/x.sock", engine_by="runtime.docker_socket", remembered=before(RuntimeKind.DOCKER, DOCKER_SOCKET)
    )
    assert auto(named) == (RuntimeKind.DOCKER, "/x.sock")


def test_without_any_one_sentence_says_where_was_looked_and_what_to_do() -> None:
    choice: Choice = decide("auto", Evidence(engines=(NO_DOCKER, NO_PODMAN)))
    assert not choice.is_found, "Docker may come later; so may another"
    [warning] = choice.warnings
    for part in (f"{DOCKER_SOCKET} (No such file", f"{PODMAN_SOCKET} (Permission denied)", "start Docker", "restart"):
        assert part in warning
    assert "\n" not in warning
