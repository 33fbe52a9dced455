"""Create bodies: names, labels and environment of a replica, and the way back from them to its deployment."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.model.ids import DeploymentId, ServiceId
from syntra.model.network import ContainerDns
from syntra.model.spec import Deployment, HealthKind, HealthSpec, VolumeMount
from syntra.model.spec_payload import fingerprint
from syntra.runtime.docker import body
from syntra.runtime.docker.body import (
    ContainerContext,
    container_name,
    create_body,
    keep_tag,
    kept_by,
    spec_from_labels,
)
from syntra.runtime.docker.telemetry_env import OtlpPorts
from tests.model.samples import SECRET, deployment, deployments, few, json_values, quick

OWNER = "o"
CONTEXT = ContainerContext(
    owner=OWNER,
    instance="5a",
    image="syntra-keep/00:dep",
    stop_signal=None,
    network="syntra-shop",
    gateway="172.18.0.1",
    otlp_ports=OtlpPorts(grpc=4317, http=4318),
    logging_driver="json-file",
)


def made(wanted: Deployment, index: int = 1, **around: Any) -> dict[str, Any]:
    return create_body(wanted, index, dataclasses.replace(CONTEXT, **around))


def environment(created: Mapping[str, Any]) -> dict[str, str]:
    """The environment as the engine hands it to the program: the last of a name counts."""
    return dict(entry.split("=", 1) for entry in created["Env"])


def test_the_first_replica_is_named_by_service_and_deployment_and_the_others_are_numbered() -> None:
    service, of = ServiceId("svc_123"), DeploymentId("dep_abc12345")
    assert container_name(service, of, 1) == "syn-svc_123-dep_abc1"
    assert container_name(service, of, 2) == "syn-svc_123-dep_abc1-2"
    assert container_name(service, of, 10) == "syn-svc_123-dep_abc1-10"
    assert container_name(service, DeploymentId("d"), 1) == "syn-svc_123-d"


def test_the_labels_say_whose_the_container_is() -> None:
    labels = made(deployment(), 3)["Labels"]
    assert labels["syntra.managed"] == "true"
    assert labels["syntra.owner"] == OWNER
    assert labels["syntra.service_id"] == "svc_123"
    assert labels["syntra.deployment_id"] == "dep_abc12345"
    assert labels["syntra.project"] == "shop"
    assert labels["syntra.replica"] == "3"
    assert labels["syntra.spec_hash"] == fingerprint(deployment().spec)


def test_labels_of_the_user_are_there_and_cannot_take_the_place_of_ours() -> None:
    labels = made(deployment(labels={"team": "x", "syntra.service_id": "other", "syntra.managed": "no"}))["Labels"]
    assert labels["team"] == "x"
    assert (labels["syntra.service_id"], labels["syntra.managed"]) == ("svc_123", "true")


def test_the_environment_is_the_user_s_with_ours_behind_it() -> None:
    created = made(deployment(env={"A": "x=y\nz", "SYNTRA_SERVICE_ID": "other", "SYNTRA_MINE": "1"}))
    assert environment(created) == {
        "A": "x=y\nz",
        "SYNTRA_MINE": "1",
        "SYNTRA_SERVICE_ID": "svc_123",
        "SYNTRA_DEPLOYMENT_ID": "dep_abc12345",
        "SYNTRA_OTLP_ENDPOINT": "http://172.18.0.1:4318",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://172.18.0.1:4318",
        "OTEL_SERVICE_NAME": "api",
        "OTEL_RESOURCE_ATTRIBUTES": (
            "service.namespace=shop,service.version=1,syntra.service.id=svc_123,syntra.deployment.id=dep_abc12345"
        ),
    }
    assert len(created["Env"]) == len(environment(created)), "each name once"


def test_an_agent_without_receivers_names_no_endpoint() -> None:
    assert environment(made(deployment(env={}), otlp_ports=None)).keys() == {
        "SYNTRA_SERVICE_ID",
        "SYNTRA_DEPLOYMENT_ID",
    }


def test_a_service_s_own_telemetry_variables_stay() -> None:
    own = {"OTEL_SERVICE_NAME": "mine", "OTEL_RESOURCE_ATTRIBUTES": "a=b"}
    found = environment(made(deployment(env=own)))
    assert found.items() >= own.items()
    assert found["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://172.18.0.1:4318"
    elsewhere = environment(made(deployment(env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"})))
    assert elsewhere["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector:4317"
    assert "OTEL_EXPORTER_OTLP_PROTOCOL" not in elsewhere
    over_grpc = environment(made(deployment(env={"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}), gateway="fd00::1"))
    assert over_grpc["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://[fd00::1]:4317"
    assert over_grpc["SYNTRA_OTLP_ENDPOINT"] == "http://[fd00::1]:4318"


def test_resource_attributes_are_percent_encoded() -> None:
    found = environment(made(deployment(service_id=ServiceId("a,b=c"))))["OTEL_RESOURCE_ATTRIBUTES"]
    assert "syntra.service.id=a%2Cb%3Dc" in found


def test_values_of_the_environment_are_in_no_label() -> None:
    created = made(deployment(env={"TOKEN": SECRET}))
    assert f"TOKEN={SECRET}" in created["Env"]
    assert SECRET not in json.dumps(created["Labels"])


def test_a_plain_service_asks_for_little() -> None:
    created = made(deployment(port=None))
    assert created["Image"] == "syntra-keep/00:dep"
    assert created["ExposedPorts"] == {}
    assert created["StopSignal"] == "SIGTERM"
    assert created["HostConfig"] == {
        "NetworkMode": "syntra-shop",
        "RestartPolicy": {"Name": "always"},
        "Mounts": [],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
    }
    assert created["NetworkingConfig"] == {"EndpointsConfig": {"syntra-shop": {"Aliases": ["api"]}}}
    assert not {"Cmd", "Healthcheck"} & created.keys()


def test_everything_a_spec_can_ask_for_is_in_the_body() -> None:
    health = HealthSpec(
        kind=HealthKind.TCP, path="/", port=None, command=(), interval=1, timeout=1, retries=1, start_period=0
    )
    created = made(
        deployment(
            command=("serve", "--fast"),
            host_port=443,
            cpu_nanos=500_000_000,
            memory_bytes=2**29,
            volumes=(
                VolumeMount(name="data", host_path=None, container_path="/data", read_only=False),
                VolumeMount(name="conf", host_path="/etc/api", container_path="/config", read_only=True),
            ),
            health=health,
            internal_hostname="api.shop.internal",
        ),
        stop_signal="SIGQUIT",
        logging_driver="journald",
    )
    assert created["Cmd"] == ["serve", "--fast"]
    assert created["StopSignal"] == "SIGQUIT"
    assert created["ExposedPorts"] == {"80/tcp": {}}
    assert created["Healthcheck"] == {"Test": ["NONE"]}, (
        "the agent asks itself; the image's own check would only wake it"
    )
    assert created["HostConfig"] == {
        "NetworkMode": "syntra-shop",
        "RestartPolicy": {"Name": "always"},
        "NanoCpus": 500_000_000,
        "Memory": 536_870_912,
        "PortBindings": {"80/tcp": [{"HostPort": "443"}]},
        "Mounts": [
            {"Type": "volume", "Source": "data", "Target": "/data", "ReadOnly": False},
            {"Type": "bind", "Source": "/etc/api", "Target": "/config", "ReadOnly": True},
        ],
    }
    aliases = created["NetworkingConfig"]["EndpointsConfig"]["syntra-shop"]["Aliases"]
    assert aliases == ["api", "api.shop.internal"]


@pytest.mark.parametrize(
    ("with_aliases", "label"), [(False, "agent"), (True, "agent+engine")], ids=["no aliases", "aliases as well"]
)
def test_a_container_that_asks_the_agent_is_told_so(with_aliases: bool, label: str) -> None:
    told = ContainerDns(servers=("172.18.0.1", "192.0.2.53"), search=("shop.internal",), options=("ndots:1",))
    created = made(deployment(), dns=told, with_aliases=with_aliases)
    host = created["HostConfig"]
    assert (host["Dns"], host["DnsSearch"], host["DnsOptions"]) == (
        ["172.18.0.1", "192.0.2.53"],
        ["shop.internal"],
        ["ndots:1"],
    )
    assert created["Labels"][body.NAMES] == label
    assert bool(created["NetworkingConfig"]["EndpointsConfig"]["syntra-shop"]["Aliases"]) == with_aliases


def test_without_the_agent_the_engine_s_resolver_is_left_as_it_is() -> None:
    host = made(deployment())["HostConfig"]
    assert not {"Dns", "DnsSearch", "DnsOptions"} & host.keys()
    claimed = dataclasses.replace(
        deployment(), spec=dataclasses.replace(deployment().spec, labels={body.NAMES: "agent"})
    )
    assert made(claimed)["Labels"][body.NAMES] == "engine"


def test_a_name_that_is_also_the_host_name_is_one_alias() -> None:
    created = made(deployment(internal_hostname="api"))
    assert created["NetworkingConfig"]["EndpointsConfig"]["syntra-shop"]["Aliases"] == ["api"]


@few
@given(deployments(), st.integers(1, 100))
def test_labels_and_environment_give_the_deployment_back(wanted: Deployment, index: int) -> None:
    created = made(wanted, index)
    inherited = {"PATH": "/bin", **environment(created)}
    assert spec_from_labels(created["Labels"], inherited) == wanted
    json.dumps(created)


def test_a_container_whose_labels_do_not_tell_has_no_deployment() -> None:
    created = made(deployment(env={"A": "1"}))
    labels, env = created["Labels"], environment(created)
    spec = json.loads(labels[body.SPEC])
    assert spec_from_labels(labels, env) is not None
    for broken in (
        {key: value for key, value in labels.items() if key != body.SPEC},
        {**labels, body.SPEC: "{"},
        {**labels, body.SPEC: "[" * 100_000},
        {**labels, body.SPEC: "null"},
        {**labels, body.SPEC: json.dumps({**spec, "config": None})},
        {**labels, body.SPEC: json.dumps({**spec, "service_id": "other"})},
        {**labels, body.SPEC: json.dumps({**spec, "service_id": 5})},
        {**labels, body.SPEC_HASH: "0" * 16},
        {key: value for key, value in labels.items() if key != body.SPEC_HASH},
    ):
        assert spec_from_labels(broken, env) is None
    assert spec_from_labels(labels, {}) is None
    assert spec_from_labels(labels, {**env, "A": "changed by hand"}) is None


@quick
@given(json_values)
def test_any_label_is_read_or_passed_over(value: object) -> None:
    for label in (json.dumps(value), json.dumps({"config": value}), json.dumps({"config": {"env_keys": value}})):
        assert spec_from_labels({body.SPEC: label, body.SPEC_HASH: ""}, {}) is None


@quick
@given(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", fullmatch=True),
)
def test_a_pin_is_a_lower_case_name_that_tells_whose_it_is(service: str, of: str) -> None:
    repository, tag = keep_tag(OWNER, ServiceId(service), DeploymentId(of))
    assert repository == repository.lower()
    assert len(repository) <= 255
    assert kept_by(OWNER, f"{repository}:{tag}") == (service, of)
    assert kept_by("another", f"{repository}:{tag}") is None


@pytest.mark.parametrize(
    "name",
    [
        *("nginx:1", "syntra-keep/o/6170:", "syntra-keep/o/6170", "syntra-keep/o/xyz:1", "syntra-keep/o/ff:1", ":", ""),
        *("host:5000/syntra-keep/o/6170:1", "syntra-keeper/o/6170:1", "syntra-pulled/6170:mark", "syntra-keep/6170:1"),
        "syntra-keep/o/6170@sha256:" + "0" * 64,
    ],
)
def test_a_name_that_is_no_pin_of_ours_is_nobody_s(name: str) -> None:
    assert kept_by("o", name) is None


def test_a_release_command_has_the_service_s_surroundings_and_nothing_that_makes_it_a_replica() -> None:
    wanted = deployment(
        command=("serve",),
        release_command=("migrate", "up"),
        env={"A": "1"},
        labels={"team": "x"},
        host_port=443,
        memory_bytes=2**29,
        volumes=(VolumeMount(name="data", host_path=None, container_path="/data", read_only=False),),
    )
    context = dataclasses.replace(CONTEXT, route_labels={"traefik.enable": "false"})
    release, replica = body.release_body(wanted, context), made(wanted)
    assert release["Cmd"] == ["migrate", "up"]
    for same in ("Image", "Env", "StopSignal"):
        assert release[same] == replica[same]
    host: Any = release["HostConfig"]
    assert host == {
        **{key: replica["HostConfig"][key] for key in ("NetworkMode", "Mounts", "Memory", "LogConfig")},
        "RestartPolicy": {"Name": "no"},
    }
    assert release["ExposedPorts"] == {}
    assert release["NetworkingConfig"] == {"EndpointsConfig": {"syntra-shop": {}}}
    assert release["Healthcheck"] == {"Test": ["NONE"]}
    assert release["Labels"] == {
        "traefik.enable": "false",
        # Whose it was, for a container that is kept after it failed.
        **{key: replica["Labels"][key] for key in ("syntra.spec", "syntra.spec_hash")},
        "syntra.managed": "true",
        "syntra.owner": OWNER,
        "syntra.instance": "5a",
        "syntra.kind": "release",
        "syntra.service_id": "svc_123",
        "syntra.deployment_id": "dep_abc12345",
        "syntra.project": "shop",
        "syntra.names": "engine",
    }
    assert body.release_name(ServiceId("svc_123"), DeploymentId("dep_abc12345")) == "syn-svc_123-dep_abc1-release"
