"""Rendered pods: resources, environment, commands, probes, stopping, volumes and options."""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import Any

import pytest

from syntra.model.container_options import ContainerOptions, ExtraHost, Tmpfs
from syntra.model.errors import InvalidField
from syntra.model.ids import ServiceId
from syntra.model.image import ImageRef
from syntra.model.spec import HealthKind, HealthSpec, RegistryAuth, VolumeMount
from syntra.runtime.kubernetes.grace import before_stop_secs
from tests.model.samples import SECRET, deployment
from tests.runtime.kubernetes.rendering import container, pod, rendered

CHECK = HealthSpec(
    kind=HealthKind.HTTP,
    path="/up",
    port=None,
    command=(),
    interval=10.0,
    timeout=5.0,
    retries=3,
    start_period=0.0,
)


def probe_times(found: dict[str, Any]) -> tuple[int, int, int, int]:
    return tuple(found[key] for key in ("periodSeconds", "timeoutSeconds", "failureThreshold", "successThreshold"))


def env_of(created: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in created["env"]}


def decoded(secret: Any) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


# Resources


def test_memory_is_in_plain_bytes_and_reserved_whole() -> None:
    """Kubernetes reads Docker's `512m` as half a byte, without an error."""
    found = container(deployment(memory_bytes=512 << 20))["resources"]
    assert found == {"limits": {"memory": "536870912"}, "requests": {"memory": "536870912"}}


@pytest.mark.parametrize(
    ("nanos", "fraction", "limit", "reserved"),
    [
        (500_000_000, 0.1, "500m", "50m"),
        (10_000_001, 0.1, "11m", "2m"),
        (1_000_000_000, 0.0, "1000m", "1m"),
        (1_000_000_000, 7.0, "1000m", "1000m"),  # a request above its limit is refused
        (1, 0.1, "1m", "1m"),
    ],
)
def test_cpu_is_in_whole_millicores_and_reserved_in_part(
    nanos: int, fraction: float, limit: str, reserved: str
) -> None:
    found = container(deployment(cpu_nanos=nanos), cpu_request_fraction=fraction)["resources"]
    assert found == {"limits": {"cpu": limit}, "requests": {"cpu": reserved}}


def test_without_limits_nothing_is_reserved() -> None:
    assert "resources" not in container()


# Environment and commands


def test_the_environment_is_an_immutable_secret_named_by_its_content() -> None:
    first, same, other = (
        rendered(deployment(name, env={"A": text})) for name, text in [("1", "x"), ("2", "x"), ("3", "y")]
    )
    (secret,) = first.supports
    assert (secret["kind"], secret["immutable"], secret["type"]) == ("Secret", True, "Opaque")
    assert decoded(secret) == {"A": "x"}
    assert secret["metadata"]["labels"]["syntra.dev/kind"] == "env"  # type: ignore[index]
    # Another deployment with the same environment does not need another one.
    assert first.supports == same.supports != other.supports
    assert container(deployment(env={"A": "x"}))["envFrom"] == [
        {"secretRef": {"name": secret["metadata"]["name"]}}  # type: ignore[index]
    ]


def test_two_services_never_share_a_secret() -> None:
    made = [rendered(deployment(service_id=ServiceId(name), env={"A": "x"})).supports[0] for name in ("a", "b")]
    assert made[0]["metadata"]["name"] != made[1]["metadata"]["name"]  # type: ignore[index]


def test_no_environment_is_no_secret() -> None:
    assert rendered().supports == () and "envFrom" not in container()


def test_values_are_in_the_secret_alone() -> None:
    found = rendered(deployment(env={"DB": SECRET}))
    assert SECRET not in json.dumps(found.objects)
    assert SECRET not in repr(deployment(env={"DB": SECRET}))


def test_the_agent_says_who_the_service_is_and_where_telemetry_goes() -> None:
    assert env_of(container(deployment("dep_7"))) == {"SYNTRA_SERVICE_ID": "svc_123", "SYNTRA_DEPLOYMENT_ID": "dep_7"}
    endpoint = "http://syntra-agent.syntra-system.svc:4318"
    found = env_of(container(deployment("dep_7"), otlp_endpoint=endpoint))
    assert found["SYNTRA_OTLP_ENDPOINT"] == found["OTEL_EXPORTER_OTLP_ENDPOINT"] == endpoint
    assert found["OTEL_SERVICE_NAME"] == "api"
    assert "syntra.service.id=svc_123" in found["OTEL_RESOURCE_ATTRIBUTES"]


def test_a_service_s_own_telemetry_settings_win() -> None:
    """A name in `env` would win over the Secret, and the same name twice there is an internal error of the API."""
    own = {"OTEL_SERVICE_NAME": "mine", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    created = container(deployment(env=own), otlp_endpoint="http://agent.svc:4318")
    listed = [entry["name"] for entry in created["env"]]
    assert len(set(listed)) == len(listed) and not set(own) & set(listed)
    assert env_of(created)["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://agent.svc:4317"


def test_docker_s_entrypoint_and_command_arrive_as_they_are() -> None:
    """Kubernetes would replace `$(NAME)` and `$$`."""
    options = ContainerOptions(entrypoint=("/bin/sh", "-c"))
    found = container(deployment(options=options, command=("echo $(HOME) $$ $A",)))
    assert (found["command"], found["args"]) == (["/bin/sh", "-c"], ["echo $$(HOME) $$$$ $$A"])
    assert not {"command", "args"} & container().keys()


# Probes


def test_a_check_is_always_a_readiness_probe_with_all_its_times() -> None:
    found = container(deployment(health=CHECK))
    assert found["readinessProbe"]["httpGet"] == {"path": "/up", "port": "service", "scheme": "HTTP"}
    assert probe_times(found["readinessProbe"]) == (10, 5, 3, 1)
    assert not {"livenessProbe", "startupProbe"} & found.keys()
    assert "readinessProbe" not in container()


def test_times_are_whole_seconds_and_at_least_one() -> None:
    found = container(deployment(health=dataclasses.replace(CHECK, interval=0.1, timeout=1.5)))
    assert probe_times(found["readinessProbe"]) == (1, 2, 3, 1)


@pytest.mark.parametrize(
    ("interval", "start", "period", "failures"), [(10.0, 30.0, 5, 9), (2.0, 5.0, 2, 6), (0.2, 0.5, 1, 4)]
)
def test_a_start_period_is_a_startup_probe_and_no_delay(
    interval: float, start: float, period: int, failures: int
) -> None:
    health = dataclasses.replace(CHECK, interval=interval, start_period=start)
    found = container(deployment(health=health))
    assert probe_times(found["startupProbe"]) == (period, 5, failures, 1)
    assert "initialDelaySeconds" not in json.dumps(found)


def test_an_unhealthy_container_is_restarted_only_where_asked_and_later_than_it_is_unready() -> None:
    found = container(deployment(health=dataclasses.replace(CHECK, restart_unhealthy=True)))
    assert probe_times(found["livenessProbe"]) == (10, 5, 9, 1)
    assert found["livenessProbe"]["httpGet"] == found["readinessProbe"]["httpGet"]


def test_checks_by_tcp_and_by_a_command() -> None:
    tcp = dataclasses.replace(CHECK, kind=HealthKind.TCP, port=9000)
    assert container(deployment(health=tcp))["readinessProbe"]["tcpSocket"] == {"port": 9000}
    command = dataclasses.replace(CHECK, kind=HealthKind.EXEC, command=("/bin/sh", "-c", "test $$ -gt 1"))
    assert container(deployment(health=command))["readinessProbe"]["exec"] == {
        "command": ["/bin/sh", "-c", "test $$$$ -gt 1"]
    }


# Stopping


@pytest.mark.parametrize(("asked", "grace"), [(None, 15), (30.0, 35), (0.2, 6), (0.0, 6)])
def test_a_pod_waits_for_its_endpoints_to_go_before_it_stops(asked: float | None, grace: int) -> None:
    wanted = deployment(options=ContainerOptions(stop_grace_secs=asked))
    assert pod(wanted)["terminationGracePeriodSeconds"] == grace
    assert container(wanted)["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    older = container(wanted, sleep_action=False)["lifecycle"]
    assert older == {"preStop": {"exec": {"command": ["sleep", "5"]}}}


@pytest.mark.parametrize("sleep_action", [True, False])
@pytest.mark.parametrize("secs", [0, 1, 600])
def test_the_wait_before_the_stop_signal_is_a_setting(secs: int, sleep_action: bool) -> None:
    wanted = deployment(options=ContainerOptions(stop_grace_secs=3.0))
    rendered = pod(wanted, pre_stop_secs=secs, sleep_action=sleep_action)
    assert rendered["terminationGracePeriodSeconds"] == 3 + secs
    assert ("lifecycle" in rendered["containers"][0]) is (secs > 0)
    assert before_stop_secs({"spec": rendered}) == secs


# The pod


def test_a_service_gets_no_token_of_the_cluster_and_no_variables_of_others() -> None:
    assert pod()["automountServiceAccountToken"] is False
    assert pod()["enableServiceLinks"] is False


def test_options_of_the_container() -> None:
    options = ContainerOptions(
        user="1000:0",
        working_dir="/srv",
        init=True,
        extra_hosts=(
            ExtraHost(name="db", address="10.0.0.1"),
            ExtraHost(name="other", address="10.0.0.2"),
            ExtraHost(name="cache", address="10.0.0.1"),
            ExtraHost(name="db", address="10.0.0.1"),
        ),
        read_only=True,
        cap_drop=("ALL",),
    )
    wanted = deployment(options=options)
    assert container(wanted)["workingDir"] == "/srv"
    assert container(wanted)["securityContext"] == {
        "runAsUser": 1000,
        "runAsGroup": 0,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(wanted)["shareProcessNamespace"] is True
    # The address is the key of this list: twice would be an internal error of the API.
    assert pod(wanted)["hostAliases"] == [
        {"ip": "10.0.0.1", "hostnames": ["db", "cache"]},
        {"ip": "10.0.0.2", "hostnames": ["other"]},
    ]
    assert not {"shareProcessNamespace", "hostAliases", "volumes", "imagePullSecrets"} & pod().keys()
    assert container(deployment(options=ContainerOptions(user="0")))["securityContext"] == {"runAsUser": 0}


# Registries


@pytest.mark.parametrize(
    ("registry", "key"), [("r.example:5000", "r.example:5000"), ("", "https://index.docker.io/v1/")]
)
def test_credentials_are_a_pull_secret(registry: str, key: str) -> None:
    auth = RegistryAuth(username="bot", password=SECRET)
    wanted = deployment(image=ImageRef(registry=registry, repository="a", tag="1"))
    (secret,) = rendered(wanted, auth=auth).supports
    assert secret["type"] == "kubernetes.io/dockerconfigjson"
    config = json.loads(decoded(secret)[".dockerconfigjson"])
    token = base64.b64encode(f"bot:{SECRET}".encode()).decode()
    assert config == {"auths": {key: {"username": "bot", "password": SECRET, "auth": token}}}
    assert pod(wanted, auth=auth)["imagePullSecrets"] == [{"name": "api-pull"}]


def test_a_pull_secret_that_exists_is_used() -> None:
    assert pod(pull_secret="theirs")["imagePullSecrets"] == [{"name": "theirs"}]
    assert rendered(pull_secret="theirs").supports == ()


@pytest.mark.parametrize(("username", "password"), [("", "x"), ("x", ""), ("a:b", "x")])
def test_credentials_without_a_content_are_refused(username: str, password: str) -> None:
    """The API takes a pull Secret of `{}`."""
    with pytest.raises(InvalidField, match="registry_auth"):
        rendered(auth=RegistryAuth(username=username, password=password))


# Volumes


def mount(name: str, path: str, **around: Any) -> VolumeMount:
    return VolumeMount(
        **{"name": name, "host_path": None, "container_path": path, "read_only": False, "external": False, **around}
    )


def test_a_named_volume_is_a_claim_that_a_renamed_service_keeps() -> None:
    wanted = deployment(volumes=(mount("Data_1", "/data"), mount("Data_1", "/again", read_only=True)))
    (claim,) = rendered(wanted, volume_bytes=1024, storage_class="fast").supports
    name = claim["metadata"]["name"]  # type: ignore[index]
    assert str(name).startswith("svc-123-data-1-")
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "fast",
        "resources": {"requests": {"storage": "1024"}},
    }
    assert pod(wanted)["volumes"] == [{"name": "volume-0", "persistentVolumeClaim": {"claimName": name}}]
    assert container(wanted)["volumeMounts"] == [
        {"name": "volume-0", "mountPath": "/data"},
        {"name": "volume-0", "mountPath": "/again", "readOnly": True},
    ]
    renamed = deployment(service_name="other", volumes=wanted.spec.volumes)
    assert rendered(renamed).supports[0]["metadata"]["name"] == name  # type: ignore[index]


def test_no_two_volumes_have_one_claim() -> None:
    of = [("a", "b-c"), ("a-b", "c"), ("a", "b.c"), ("a", "b_c"), ("a", "B-C"), ("x" * 64, "y" * 128)]
    found = {
        rendered(deployment(service_id=ServiceId(service), volumes=(mount(name, "/d"),))).supports[0]["metadata"][
            "name"
        ]  # type: ignore[index]
        for service, name in of
    }
    assert len(found) == len(of) and all(len(str(name)) <= 253 for name in found)


def test_an_external_volume_is_a_claim_that_exists() -> None:
    wanted = deployment(volumes=(mount("their.claim", "/data", external=True),))
    assert rendered(wanted).supports == ()
    assert pod(wanted)["volumes"][0]["persistentVolumeClaim"] == {"claimName": "their.claim"}


def test_paths_of_the_node_and_file_systems_in_memory() -> None:
    options = ContainerOptions(
        shm_bytes=64, tmpfs=(Tmpfs(path="/run", options="size=64k,mode=1777"), Tmpfs(path="/tmp"))
    )
    wanted = deployment(volumes=(mount("", "/conf", host_path="/etc/api", read_only=True),), options=options)
    assert pod(wanted)["volumes"] == [
        {"name": "volume-0", "hostPath": {"path": "/etc/api"}},
        {"name": "tmpfs-0", "emptyDir": {"medium": "Memory", "sizeLimit": "65536"}},
        {"name": "tmpfs-1", "emptyDir": {"medium": "Memory"}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "64"}},
    ]
    assert [entry["mountPath"] for entry in container(wanted)["volumeMounts"]] == ["/conf", "/run", "/tmp", "/dev/shm"]


@pytest.mark.parametrize("command", [["sleep"], ["sleep", "2m"], ["sleep", None], ["sh", "-c", "sleep 9"], "sleep 9"])
def test_a_wait_that_others_wrote_is_no_number(command: object) -> None:
    containers = [{"lifecycle": {"preStop": {"exec": {"command": command}}}}]
    assert before_stop_secs({"spec": {"containers": containers}}) == 0
