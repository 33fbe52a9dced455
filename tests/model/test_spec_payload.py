"""Deploy payloads of every age: what they become, how they are rendered, and how each mistake in them is named."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.model.env_payload import parse_env
from syntra.model.errors import InvalidField, RequestError
from syntra.model.fields import Fields
from syntra.model.image import ImageRef
from syntra.model.log_options import LogOptions, LogRate
from syntra.model.paths import absolute_path
from syntra.model.spec import (
    Deployment,
    HealthKind,
    HealthSpec,
    ImageVolumes,
    RateLimit,
    Routing,
    ServiceSpec,
    Strategy,
    VolumeMount,
)
from syntra.model.spec_payload import (
    fingerprint,
    parse_deployment,
    parse_registry_auth,
    render_deployment,
)
from tests.model.samples import (
    DIGEST,
    SECRET,
    current_payload,
    deployment,
    deployments,
    few,
    json_values,
    placed,
    quick,
    spec,
    without,
)


def parse(payload: dict[str, Any]) -> Deployment:
    return parse_deployment(Fields(payload))


def refused(payload: dict[str, Any]) -> InvalidField:
    with pytest.raises(InvalidField) as caught:
        parse(payload)
    assert SECRET not in str(caught.value)
    assert len(str(caught.value)) < 300
    return caught.value


def test_the_current_shape_is_read_whole() -> None:
    assert parse(current_payload()) == Deployment(
        deployment_id="dep_abc12345",  # type: ignore[arg-type] # ids are text
        spec=ServiceSpec(
            service_id="svc_123",  # type: ignore[arg-type] # ids are text
            service_name="api",
            project_name="shop",
            image=ImageRef(registry="ghcr.io", repository="acme/api", tag="1.2", digest=DIGEST),
            command=("serve", "--fast"),
            port=8080,
            replicas=1,
            cpu_nanos=500_000_000,
            memory_bytes=536_870_912,
            env={"DB_URL": SECRET},
            labels={"team": "x"},
            volumes=(
                VolumeMount(name="data", host_path=None, container_path="/data", read_only=False),
                VolumeMount(name="conf", host_path="/etc/api", container_path="/config", read_only=True),
            ),
            health=HealthSpec(
                kind=HealthKind.HTTP,
                path="/up",
                port=8081,
                command=("true",),
                interval=2.0,
                timeout=1.5,
                retries=4,
                start_period=5.0,
            ),
            domains=("api.example", "*.api.example"),
            routing=Routing(
                path_prefix="/v1",
                strip_prefix=True,
                priority=7000,
                sticky=True,
                response_headers=(("X-Frame-Options", "DENY"),),
                rate_limit=RateLimit(average=100, burst=200),
            ),
            internal_hostname="api.shop.internal",
            host_port=8443,
        ),
        strategy=Strategy.BLUE_GREEN,
        rollback_on_failure=False,
        timeout_secs=120.0,
    )


FLAT: dict[str, Any] = {
    "service_id": "svc_1",
    "deployment_id": "dep_1",
    "image": "ghcr.io/acme/api",
    "tag": "1.2",
    "port": 3000,
    "replicas": 2,
    "env_vars": {"A": "b"},
    "resources": {"cpu_limit": "250m", "memory_limit": "256MB", "cpu_request": "0.1", "memory_request": "64m"},
    "health_check": {"path": "/up", "interval": 5, "timeout": 2, "retries": 2},
    "domains": ["api.example"],
    "project_name": "shop",
    "service_name": "api",
}
NESTED: dict[str, Any] = {
    "deployment_id": "dep_1",
    "project_name": "shop",
    "service": {
        "id": "svc_1",
        "name": "api",
        "docker_image": "ghcr.io/acme/api:1.2",
        "port": 3000,
        "replicas": 2,
        "health_check": {"path": "/up", "interval_seconds": 5},
        "env_vars": {"A": "b"},
        "resources": {"cpu_limit": "250m", "memory_limit": "256MB"},
    },
}


@pytest.mark.parametrize("payload", [FLAT, NESTED], ids=["flat", "nested"])
def test_older_shapes_say_the_same(payload: dict[str, Any]) -> None:
    found = parse(payload)
    assert found.deployment_id == "dep_1"
    assert dataclasses.replace(found.spec, health=None, domains=()) == spec(
        service_id="svc_1",
        image=ImageRef(registry="ghcr.io", repository="acme/api", tag="1.2"),
        port=3000,
        replicas=2,
        env={"A": "b"},
        cpu_nanos=250_000_000,
        memory_bytes=268_435_456,
    )
    health = found.spec.health
    assert health is not None
    assert (health.kind, health.path, health.interval) == (HealthKind.HTTP, "/up", 5.0)
    assert (found.strategy, found.rollback_on_failure, found.timeout_secs) == (Strategy.ROLLING, True, 300.0)


def test_the_older_health_check_has_shorter_names() -> None:
    health = parse(FLAT).spec.health
    assert health is not None
    assert (health.interval, health.timeout, health.retries, health.start_period) == (5.0, 2.0, 2, 0.0)


IMAGE = {"registry": "ghcr.io", "repository": "acme/api", "tag": "1.2", "digest": None}


@pytest.mark.parametrize(
    "shape",
    [
        {"image": IMAGE},
        {"image": {"repository": "ghcr.io/acme/api", "tag": "1.2"}},
        {"image": {"repository": "ghcr.io/acme/api:1.2"}},
        {"image": {"repository": "ghcr.io/acme/api:1.2", "tag": "1.2", "registry": "", "digest": ""}},
        {"image": "ghcr.io/acme/api", "tag": "1.2"},
        {"image": "ghcr.io/acme/api:1.2", "tag": "0"},
        {"docker": {"image": "ghcr.io/acme/api", "tag": "1.2"}},
        {"docker": {"image": "ghcr.io/acme/api"}, "tag": "1.2"},
        {"docker": {"tag": "1.2"}, "service": {"id": "svc_1", "docker_image": "ghcr.io/acme/api"}},
        {"service": {"id": "svc_1", "docker_image": "ghcr.io/acme/api", "tag": "1.2"}},
        {"service": {"id": "svc_1"}, "docker": {"image": "ghcr.io/acme/api", "tag": "1.2"}, "image": "other"},
    ],
)
def test_an_image_is_found_wherever_the_shape_has_it(shape: dict[str, Any]) -> None:
    payload = {"service_id": "svc_1", "deployment_id": "dep_1", **shape}
    assert parse(payload).spec.image == ImageRef(registry="ghcr.io", repository="acme/api", tag="1.2")


@pytest.mark.parametrize(
    ("shape", "field"),
    [
        ({}, "image"),
        ({"image": ""}, "image"),
        ({"image": 5}, "image"),
        ({"image": "repo", "tag": "1/2"}, "tag"),
        ({"image": "repo", "tag": "a@b"}, "tag"),
        ({"image": "repo", "tag": 5}, "tag"),
        ({"image": "Repo", "tag": "1"}, "image"),
        ({"image": {}}, "image.repository"),
        ({"image": {"repository": "repo", "tag": "1/2"}}, "image.tag"),
        ({"image": {"repository": "repo:1", "tag": "2"}}, "image.tag"),
        ({"image": {"repository": "repo", "digest": "sha256:1"}}, "image.digest"),
        ({"image": {"repository": "Repo"}}, "image.repository"),
        ({"image": {"registry": "no_registry", "repository": "repo"}}, "image.registry"),
        ({"image": {"registry": "folder", "repository": "repo"}}, "image.registry"),
        ({"image": {"registry": "ghcr.io", "repository": "repo:1"}}, "image.repository"),
        ({"docker": {"image": "repo", "tag": " "}}, "docker.tag"),
        ({"docker": {"image": "re po"}}, "docker.image"),
        ({"docker": 5}, "docker"),
        ({"service": {"id": "svc_1", "docker_image": "a@b"}}, "service.docker_image"),
    ],
)
def test_a_wrong_image_is_named_by_its_own_field(shape: dict[str, Any], field: str) -> None:
    assert refused({"service_id": "svc_1", "deployment_id": "dep_1", **shape}).field == field


def test_unknown_fields_are_ignored() -> None:
    payload = current_payload()
    payload["later"] = payload["config"]["later"] = payload["networking"]["later"] = payload["image"]["later"] = {
        "x": 1
    }
    payload["config"]["health_check"]["later"] = payload["config"]["volumes"][0]["later"] = [1]
    assert parse(payload) == parse(current_payload())


TEXT, WHOLE, NUMBER, YES_NO, LIST, OBJECT = "text", "whole", "number", "yes or no", "list", "object"
OF_KIND: dict[str, object] = {
    TEXT: "\x01?",
    WHOLE: 5,
    NUMBER: 1.5,
    YES_NO: True,
    LIST: ["\x01?"],
    OBJECT: {"\x01?": []},
}
# Per field: the kinds it takes, and values of those kinds that are wrong all the same.
FIELDS: dict[str, tuple[set[str], tuple[object, ...]]] = {
    "deployment_id": ({TEXT}, ("", "a b", "x" * 101)),
    "service_id": ({TEXT}, ("", "/")),
    "service_name": ({TEXT}, ("", "a b", "-a", "a-", "x" * 64)),
    "project_name": ({TEXT}, ("", "ä")),
    "image": ({TEXT, OBJECT}, ("A",)),
    "image.registry": ({TEXT}, ("h/x", "-h.io", "folder")),
    "image.repository": ({TEXT}, ("", "A", "x" * 256)),
    "image.tag": ({TEXT}, ("a b", "x" * 129)),
    "image.digest": ({TEXT}, ("sha256:0", DIGEST.upper())),
    "config": ({OBJECT}, ()),
    "config.port": ({WHOLE}, (0, -1, 65536, 10**400)),
    "config.replicas": ({WHOLE}, (-1, 101)),
    "config.cpu_limit": ({TEXT, WHOLE, NUMBER}, ("", " ", "x", "-1", "0", 0, "0.009", "9m", "1g", "1.", "1,5", 1e300)),
    "config.memory_limit": (
        {TEXT, WHOLE, NUMBER},
        ("", "x", "512x", "-1", 0, "0m", "5m", 1.5, "1.5", 10**400, "9000000000g", float("nan")),
    ),
    "config.command": ({LIST}, ([""] * 1001,)),
    "config.command[0]": ({TEXT}, ("a\0",)),
    "config.env_vars": ({OBJECT}, ({"": "x"}, {"A=B": "x"}, {"A B": "x"}, {"A\n": "x"}, {"x" * 256: "x"})),
    "config.env_vars.DB_URL": ({TEXT, WHOLE, NUMBER, YES_NO}, (None, "\0")),
    "config.labels": ({OBJECT}, ({"": "x"}, {"syntra.managed": "x"}, {"com.docker.x": "x"})),
    "config.labels.team": ({TEXT, WHOLE, NUMBER, YES_NO}, (None,)),
    "config.volumes": ({LIST}, ([{}] * 101,)),
    "config.volumes[0]": ({OBJECT}, (None,)),
    "config.volumes[0].name": ({TEXT}, ("", "a", "/a", "-ab", None)),
    "config.volumes[0].container_path": ({TEXT}, ("", "data", "/", "//", "/.", "/a/../b", "/..", None)),
    "config.volumes[1].container_path": ({TEXT}, ("/data", "/data/", "//data", "/./data")),
    "config.volumes[1].host_path": ({TEXT}, ("etc", "/etc/..", "~")),
    "config.volumes[0].read_only": ({YES_NO}, (0, "true")),
    "config.health_check": ({OBJECT}, ()),
    "config.health_check.type": ({TEXT}, ("", "grpc", "HTTP")),
    "config.health_check.path": ({TEXT}, ("", "up", "/a b", "/a\r\nX: y", "/\x7f", "/é")),
    "config.health_check.port": ({WHOLE}, (0, 65536)),
    "config.health_check.command": ({TEXT, LIST}, ()),
    "config.health_check.interval_seconds": ({WHOLE, NUMBER, TEXT}, (0, -1, 3601, "5x", float("inf"))),
    "config.health_check.timeout_seconds": ({WHOLE, NUMBER, TEXT}, (0, 601, "")),
    "config.health_check.retries": ({WHOLE}, (0, 101)),
    "config.health_check.start_period_seconds": ({WHOLE, NUMBER, TEXT}, (-1, 3601)),
    "networking": ({OBJECT}, ()),
    "networking.domains": ({LIST}, (["a.example"] * 101,)),
    "networking.domains[1]": ({TEXT}, ("", "a", "a b.example", "http://a.example", "a..example", "-a.example", "*")),
    "networking.internal_hostname": ({TEXT}, ("a b", "-a", "a..b", "x" * 254)),
    "networking.expose_port": ({WHOLE, YES_NO}, (-1, 65536)),
    "networking.path_prefix": ({TEXT}, ("v1", "/a b", "/a`b", "/{{x}}", "/a//b", "/../a", "/%2e", "/é", "/a\n", "/?q")),
    "networking.strip_prefix": ({YES_NO}, (0, "true")),
    "networking.priority": ({WHOLE}, (0, 1_000_001)),
    "networking.sticky": ({YES_NO}, (1, "yes")),
    "networking.response_headers": (
        {OBJECT},
        ({"a b": "x"}, {"X": "a\r\nY: b"}, {"X": "{{ env }}"}, {"X": "é"}, {"Content-Length": "1"}, {"A": "", "a": ""}),
    ),
    "networking.rate_limit": ({OBJECT}, ()),
    "networking.rate_limit.average": ({WHOLE}, (0, 1_000_001)),
    "networking.rate_limit.burst": ({WHOLE}, (0, 1_000_001)),
    "strategy": ({TEXT}, ("", "green", "ROLLING")),
    "rollback_on_failure": ({YES_NO}, (0, "false")),
    "timeout_seconds": ({WHOLE, NUMBER, TEXT}, (0, 86401, "soon", 10**400)),
}


@pytest.mark.parametrize("field", FIELDS)
def test_every_wrong_type_and_range_is_refused_by_the_dotted_path_of_its_field(field: str) -> None:
    kinds, wrong = FIELDS[field]
    taken = kinds | ({WHOLE} if NUMBER in kinds else set())
    for value in [value for kind, value in OF_KIND.items() if kind not in taken] + list(wrong):
        error = refused(placed(current_payload(), field, value))
        assert error.field == field, value
        assert error.code == "INVALID_PAYLOAD"


@pytest.mark.parametrize("field", ["deployment_id", "service_id", "image"])
def test_a_field_that_must_be_there_is_named_when_it_is_not(field: str) -> None:
    assert str(refused(without(current_payload(), field))) == f"{field}: is missing"


@pytest.mark.parametrize(
    ("payload", "field", "value"),
    [
        (FLAT, "port", "3000"),
        (FLAT, "replicas", -1),
        (FLAT, "resources.cpu_limit", "much"),
        (FLAT, "resources.memory_limit", "much"),
        (FLAT, "health_check.interval", 0),
        (FLAT, "health_check.timeout", []),
        (FLAT, "env_vars", {"a b": ""}),
        (FLAT, "domains[0]", "x"),
        (NESTED, "service", []),
        (NESTED, "service.id", "a b"),
        (NESTED, "service.name", "a b"),
        (NESTED, "service.port", 0),
        (NESTED, "service.replicas", 101),
        (NESTED, "service.health_check.path", "up"),
        (NESTED, "service.env_vars", {"=": ""}),
        (NESTED, "service.resources", 5),
        (NESTED, "service.resources.memory_limit", ""),
    ],
)
def test_fields_of_older_shapes_are_named_where_they_are(payload: dict[str, Any], field: str, value: object) -> None:
    assert refused(placed(payload, field, value)).field == field


@pytest.mark.parametrize(("alias", "value"), [("cpu", "x"), ("memory", "x"), ("env", {"": ""}), ("env", "A=b")])
def test_an_alias_is_named_as_it_was_sent(alias: str, value: object) -> None:
    payload = current_payload()
    config = without(payload["config"], "cpu_limit", "memory_limit", "env_vars")
    assert refused({**payload, "config": {**config, alias: value}}).field == f"config.{alias}"


@pytest.mark.parametrize(
    ("cpu", "nanos"),
    [("0.5", 500_000_000), ("2", 2_000_000_000), (0.5, 500_000_000), (2, 2_000_000_000), (0.1 + 0.2, 300_000_000)],
)
def test_cpu_limits_come_as_text_and_as_numbers(cpu: object, nanos: int) -> None:
    assert parse(placed(current_payload(), "config.cpu_limit", cpu)).spec.cpu_nanos == nanos


@pytest.mark.parametrize(
    ("memory", "size"),
    [
        ("512m", 2**29),
        ("1g", 2**30),
        ("256MB", 2**28),
        ("1.5g", 3 * 2**29),
        ("536870912", 2**29),
        (536870912, 2**29),
        (5.36870912e8, 2**29),
    ],
)
def test_memory_limits_come_as_text_and_as_numbers(memory: object, size: int) -> None:
    assert parse(placed(current_payload(), "config.memory_limit", memory)).spec.memory_bytes == size


def test_absent_limits_are_unlimited() -> None:
    payload = current_payload()
    payload["config"] = without(payload["config"], "cpu_limit") | {"memory_limit": None}
    found = parse(payload).spec
    assert (found.cpu_nanos, found.memory_bytes) == (None, None)


def test_a_cpu_share_too_small_to_be_enforced_is_refused_and_not_unlimited() -> None:
    error = refused(placed(current_payload(), "config.cpu_limit", "0.000001"))
    assert str(error) == "config.cpu_limit: '0.000001' is less than the 0.01 of a core that can be enforced"


@pytest.mark.parametrize(("value", "host_port"), [(None, None), (False, None), (0, None), (True, 8080), (443, 443)])
def test_a_service_is_published_on_its_own_port_or_on_a_given_one(value: object, host_port: int | None) -> None:
    assert parse(placed(current_payload(), "networking.expose_port", value)).spec.host_port == host_port


def test_a_published_service_needs_a_port_and_has_one_replica() -> None:
    payload = placed(current_payload(), "config.port", None)
    assert str(refused(payload)) == "networking.expose_port: needs config.port, the port inside the container"
    error = refused(placed(current_payload(), "config.replicas", 2))
    assert str(error).startswith("networking.expose_port: 2 replicas cannot share host port 8443; use 1 replica")


@pytest.mark.parametrize(
    ("check", "kind", "command"),
    [
        ({"path": "/up"}, HealthKind.HTTP, ()),
        ({}, HealthKind.TCP, ()),
        ({"command": ["pg_isready"]}, HealthKind.EXEC, ("pg_isready",)),
        ({"command": "pg_isready -q"}, HealthKind.EXEC, ("/bin/sh", "-c", "pg_isready -q")),
        ({"type": "tcp", "path": "/up"}, HealthKind.TCP, ()),
    ],
)
def test_the_kind_of_a_health_check_follows_from_what_it_has(
    check: object, kind: HealthKind, command: tuple[str, ...]
) -> None:
    health = parse(placed(current_payload(), "config.health_check", check)).spec.health
    assert health is not None
    assert (health.kind, health.command) == (kind, command)


def test_a_health_check_needs_what_it_asks_with() -> None:
    for command in ([], "", [""], None):
        check = {"type": "exec", "command": command}
        assert refused(placed(current_payload(), "config.health_check", check)).field == "config.health_check.command"
    portless = placed(placed(current_payload(), "config.port", None), "networking.expose_port", None)
    error = refused(placed(portless, "config.health_check", {"path": "/up"}))
    assert error.field == "config.health_check.port"


def test_names_are_written_in_lower_case_and_paths_plainly() -> None:
    payload = placed(current_payload(), "networking.domains[0]", "API.Example")
    payload = placed(payload, "networking.internal_hostname", "API.shop")
    payload = placed(payload, "config.volumes[1].host_path", "/etc//api/./")
    payload = placed(payload, "config.volumes[1].container_path", "//config/")
    found = parse(payload).spec
    assert found.domains == ("api.example", "*.api.example")
    assert found.internal_hostname == "api.shop"
    # The engine spells a bind's source this way; a volume with a single writer is found by it.
    assert (found.volumes[1].host_path, found.volumes[1].container_path) == ("/etc/api", "/config")


@pytest.mark.parametrize(
    ("text", "path"),
    [("/", "/"), ("/a", "/a"), ("//a//b/", "/a/b"), ("/./a/.", "/a"), ("/procs", "/procs"), ("/a/proc", "/a/proc")],
)
def test_an_absolute_path_has_one_spelling(text: str, path: str) -> None:
    assert absolute_path(text, outside=("proc",)) == path


@pytest.mark.parametrize("text", ["", "a", "./a", "/a/..", "/..", "/proc", "//proc", "/./proc/self", "/x/../proc"])
def test_a_path_that_leads_elsewhere_is_none(text: str) -> None:
    assert absolute_path(text, outside=("proc",)) is None


def test_what_the_agent_tells_every_container_is_no_part_of_a_spec() -> None:
    env = {"SYNTRA_SERVICE_ID": "x", "SYNTRA_DEPLOYMENT_ID": "y", "SYNTRA_OTLP_ENDPOINT": "z", "SYNTRA_MINE": "1"}
    assert parse(placed(current_payload(), "config.env_vars", env)).spec.env == {"SYNTRA_MINE": "1"}


def test_the_value_in_a_variable_name_is_not_shown() -> None:
    with pytest.raises(InvalidField, match=r"^env: 'TOKEN' is not a variable name") as caught:
        parse_env(Fields({"env": {f"TOKEN={SECRET}": ""}}), "env")
    assert SECRET not in str(caught.value)


def test_registry_credentials_are_read_and_never_shown() -> None:
    auth = parse_registry_auth(Fields(current_payload()))
    assert auth is not None
    assert (auth.username, auth.password) == ("bot", SECRET)
    assert SECRET not in repr(auth)
    for none in (None, {}, {"username": "", "password": ""}):
        assert parse_registry_auth(Fields({"registry_auth": none})) is None
    assert parse_registry_auth(Fields({})) is None


@pytest.mark.parametrize(
    ("auth", "field"),
    [
        (f"bot:{SECRET}", "registry_auth"),
        ([SECRET], "registry_auth"),
        ({"username": "bot"}, "registry_auth"),
        ({"password": SECRET}, "registry_auth"),
        ({"username": 5, "password": SECRET}, "registry_auth.username"),
        ({"username": "bot", "password": [SECRET]}, "registry_auth.password"),
        ({"username": "bot", "password": SECRET * 9000}, "registry_auth.password"),
    ],
)
def test_wrong_credentials_are_named_and_not_quoted(auth: object, field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        parse_registry_auth(Fields({"registry_auth": auth}))
    assert caught.value.field == field
    assert SECRET not in str(caught.value)


@few
@given(deployments())
def test_a_rendered_deployment_reads_back_as_it_was(wanted: Deployment) -> None:
    rendered = json.loads(json.dumps(render_deployment(wanted)))
    assert parse(rendered) == wanted


def test_a_deployment_does_not_show_the_values_of_its_environment() -> None:
    assert SECRET not in repr(parse(current_payload()))


@quick
@given(st.sampled_from(sorted(FIELDS)), json_values)
def test_any_value_anywhere_is_taken_or_refused_without_a_secret(field: str, value: object) -> None:
    payload = placed(current_payload(), field, value)
    try:
        parse(payload)
    except RequestError as error:
        assert isinstance(error, InvalidField)
        assert SECRET not in str(error)
        str(error).encode()


def test_a_fingerprint_tells_settings_apart_but_not_counts_or_ids() -> None:
    base = fingerprint(spec())
    assert len(base) == 16
    assert fingerprint(spec(replicas=5)) == base
    assert fingerprint(deployment("dep_other").spec) == base
    changes: list[dict[str, Any]] = [
        {"env": {"A": "b"}},
        {"command": ("x",)},
        {"port": 81},
        {"memory_bytes": 2**30},
        {"image": ImageRef(registry="", repository="nginx", tag="2")},
        {"volumes": (VolumeMount(name="data", host_path=None, container_path="/d", read_only=True),)},
        {"labels": {"a": "b"}},
        {"host_port": 80},
        {"image_volumes": ImageVolumes.DISCARD},
        {"volumes": (VolumeMount(name="data", host_path=None, container_path="/d", read_only=True, external=True),)},
    ]
    assert len({base, *(fingerprint(spec(**change)) for change in changes)}) == len(changes) + 1


def test_the_fingerprints_of_specs_that_run_somewhere_stay_what_they_are() -> None:
    checked = HealthSpec(
        kind=HealthKind.HTTP,
        path="/health",
        port=None,
        command=(),
        interval=10.0,
        timeout=5.0,
        retries=3,
        start_period=0.0,
    )
    assert fingerprint(spec()) == "479466352115dc74"
    assert fingerprint(spec(health=checked)) == "093f530ca948c710"
    assert fingerprint(spec(health=dataclasses.replace(checked, restart_unhealthy=True))) != "093f530ca948c710"


def test_what_an_image_declares_is_kept_unless_it_is_told_to_be_worth_nothing() -> None:
    payload = current_payload()
    assert parse(payload).spec.image_volumes is ImageVolumes.KEEP
    assert "image_volumes" not in cast("dict[str, Any]", render_deployment(parse(payload))["config"])
    for word, kind in (("keep", ImageVolumes.KEEP), ("discard", ImageVolumes.DISCARD)):
        assert parse(placed(payload, "config.image_volumes", word)).spec.image_volumes is kind
    with pytest.raises(InvalidField, match=r"^config.image_volumes: 'drop' is not one of keep, discard"):
        parse(placed(payload, "config.image_volumes", "drop"))


def test_how_a_log_is_read_is_part_of_the_spec_but_not_of_its_containers() -> None:
    payload = current_payload()
    assert "logs" not in cast("dict[str, Any]", render_deployment(parse(payload))["config"])
    given = {"multiline": False, "parse": "json", "rate_limit": {"lines_per_second": 5}}
    made = parse(placed(payload, "config.logs", given)).spec
    assert made.logs == LogOptions(
        multiline="off", parse="json", rate_limit=LogRate(lines_per_sec=5.0, bytes_per_sec=0.0, burst_secs=10.0)
    )
    assert fingerprint(made) == fingerprint(parse(payload).spec)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(", "a*b*c*d*e", "x" * 201, "(ab){2,}"])
def test_a_pattern_that_may_take_long_for_a_line_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidField, match=r"^config.logs.multiline: "):
        parse(placed(current_payload(), "config.logs", {"multiline": pattern}))


def test_an_external_volume_is_a_named_one() -> None:
    payload = current_payload()
    assert [v.external for v in parse(placed(payload, "config.volumes[0].external", True)).spec.volumes] == [
        True,
        False,
    ]
    with pytest.raises(InvalidField, match=r"^config.volumes\[1\].external: is for a named volume"):
        parse(placed(payload, "config.volumes[1].external", True))
    with pytest.raises(InvalidField, match=r"^config.volumes\[0\].external"):
        parse(placed(payload, "config.volumes[0].external", "yes"))


def test_a_new_domain_or_route_needs_no_new_container() -> None:
    routed = spec(domains=("a.example",), routing=Routing(path_prefix="/v1", sticky=True))
    assert fingerprint(routed) == fingerprint(spec(release_command=("migrate",))) == fingerprint(spec())


def test_a_fingerprint_does_not_depend_on_the_order_of_variables() -> None:
    assert fingerprint(spec(env={"A": "1", "B": "2"})) == fingerprint(spec(env={"B": "2", "A": "1"}))


def test_a_variable_may_refer_to_a_secret() -> None:
    env = {"URL": {"secret": "db_url"}, "A": "b", "SYNTRA_SERVICE_ID": {"secret": "x"}}
    payload = {**current_payload(), "config": {"port": 80, "env_vars": env}}
    parsed = parse_deployment(Fields(payload))
    assert (parsed.spec.env, parsed.spec.env_secrets) == ({"A": "b"}, (("URL", "db_url"),))
    # As it is stored, with the value.
    spec = dataclasses.replace(parsed.spec, env={"A": "b", "URL": SECRET})
    stored = dataclasses.replace(parsed, spec=spec)
    assert parse_deployment(Fields(render_deployment(stored))) == stored
    assert SECRET not in repr(stored)
    # Where a value comes from makes no other container.
    assert fingerprint(spec) == fingerprint(dataclasses.replace(spec, env_secrets=()))
    assert fingerprint(spec) != fingerprint(parsed.spec)


@pytest.mark.parametrize(
    "reference",
    [{"secret": "a b"}, {"secret": SECRET + "/"}, {"secret": 5}, {}, {"secret": "a", "value": SECRET}, {"x": 1}],
)
def test_a_reference_is_a_name_alone(reference: object) -> None:
    with pytest.raises(InvalidField) as refused:
        parse_deployment(Fields({**current_payload(), "config": {"port": 80, "env_vars": {"URL": reference}}}))
    assert refused.value.field.startswith("config.env_vars.URL")
    assert SECRET not in str(refused.value)
