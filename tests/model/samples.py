"""Specs and payloads that the tests of the pure parts start from, and generators of valid and of arbitrary ones."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from syntra.model.container_options import ContainerOptions, ExtraHost, Tmpfs, Ulimit
from syntra.model.ids import DeploymentId, ServiceId
from syntra.model.image import ImageRef
from syntra.model.log_options import LogOptions, LogRate
from syntra.model.log_options_payload import PARSE
from syntra.model.spec import (
    AGENT_ENV,
    Canary,
    CanaryStep,
    Deployment,
    HealthKind,
    HealthSpec,
    ImageVolumes,
    MetricsSpec,
    RateLimit,
    Routing,
    ServiceSpec,
    Strategy,
    VolumeMount,
)
from syntra.model.spec_payload import MAX_MEMORY_BYTES, MAX_REPLICAS, MIN_CPU_NANOS, MIN_MEMORY_BYTES

SECRET = "s3cr3t-Zx9"
DIGEST = "sha256:" + "0123456789abcdef" * 4

# The machine that runs the tests may be slow; what is generated stays the same.
quick = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
few = settings(quick, max_examples=25)


def current_payload() -> dict[str, Any]:
    """A `deploy` in the current shape with every field of it."""
    return {
        "request_id": "req_1",
        "deployment_id": "dep_abc12345",
        "service_id": "svc_123",
        "service_name": "api",
        "project_name": "shop",
        "image": {"registry": "ghcr.io", "repository": "acme/api", "tag": "1.2", "digest": DIGEST},
        "registry_auth": {"username": "bot", "password": SECRET},
        "config": {
            "port": 8080,
            "replicas": 1,
            "cpu_limit": "0.5",
            "memory_limit": "512m",
            "command": ["serve", "--fast"],
            "env_vars": {"DB_URL": SECRET},
            "labels": {"team": "x"},
            "volumes": [
                {"name": "data", "container_path": "/data", "read_only": False},
                {"name": "conf", "host_path": "/etc/api", "container_path": "/config", "read_only": True},
            ],
            "health_check": {
                "type": "http",
                "path": "/up",
                "port": 8081,
                "command": ["true"],
                "interval_seconds": 2,
                "timeout_seconds": 1.5,
                "retries": 4,
                "start_period_seconds": 5,
            },
        },
        "networking": {
            "domains": ["api.example", "*.api.example"],
            "internal_hostname": "api.shop.internal",
            "expose_port": 8443,
            "path_prefix": "/v1",
            "strip_prefix": True,
            "priority": 7000,
            "sticky": True,
            "response_headers": {"X-Frame-Options": "DENY"},
            "rate_limit": {"average": 100, "burst": 200},
        },
        "strategy": "blue_green",
        "rollback_on_failure": False,
        "timeout_seconds": 120,
    }


def placed(payload: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy of the payload with `value` at a dotted path; list items are written `volumes[0]`."""
    changed = copy.deepcopy(payload)
    at: Any = changed
    *parents, last = [step for part in path.split(".") for step in _steps(part)]
    for step in parents:
        at = at[step]
    at[last] = value
    return changed


def without(payload: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in payload.items() if key not in keys}


def _steps(part: str) -> list[str | int]:
    name, _, index = part.rstrip("]").partition("[")
    return [name, int(index)] if index else [name]


def spec(**changes: Any) -> ServiceSpec:
    """A small service: one replica of an image on port 80."""
    base = ServiceSpec(
        service_id=ServiceId("svc_123"),
        service_name="api",
        project_name="shop",
        image=ImageRef(registry="", repository="nginx", tag="1"),
        command=(),
        port=80,
        replicas=1,
        cpu_nanos=None,
        memory_bytes=None,
        env={},
        labels={},
        volumes=(),
        health=None,
        domains=(),
        routing=Routing(),
        internal_hostname=None,
        host_port=None,
    )
    return dataclasses.replace(base, **changes)


def deployment(deployment_id: str = "dep_abc12345", *, strategy: Strategy = Strategy.ROLLING, **of: Any) -> Deployment:
    """A deployment of `spec(**of)`."""
    return Deployment(
        deployment_id=DeploymentId(deployment_id),
        spec=spec(**of),
        strategy=strategy,
        rollback_on_failure=True,
        timeout_secs=300.0,
    )


_ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,30}", fullmatch=True)
_names = st.from_regex(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,20}[A-Za-z0-9])?", fullmatch=True)
_texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
_env_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,15}", fullmatch=True).filter(lambda name: name not in AGENT_ENV)
_label_names = st.from_regex(r"[a-z][a-z0-9./-]{0,20}", fullmatch=True).filter(
    lambda name: not name.startswith(("syntra.", "com.docker.", "traefik."))
)
_paths = st.lists(st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._ -]{0,8}", fullmatch=True), min_size=1, max_size=3).map(
    lambda parts: "/" + "/".join(parts)
)
_hosts = st.from_regex(r"[a-z0-9]{1,10}(?:-[a-z0-9]{1,5})?\.[a-z]{2,6}", fullmatch=True)
_ports = st.integers(1, 65535)

images = st.builds(
    ImageRef,
    registry=st.sampled_from(["", "ghcr.io", "localhost", "localhost:5000", "r.example.com:443"]),
    repository=st.from_regex(r"[a-z0-9]{1,8}(?:(?:_|__|-+|\.)[a-z0-9]{1,8})?(?:/[a-z0-9]{1,8}){0,2}", fullmatch=True),
    tag=st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}", fullmatch=True),
    digest=st.sampled_from([None, DIGEST]),
).filter(lambda image: bool(image.registry) or "." not in image.repository.partition("/")[0])

_seconds = st.floats(0.1, 600, allow_nan=False)


_metrics = st.builds(
    MetricsSpec,
    port=st.integers(1, 65535),
    path=st.sampled_from(["/metrics", "/", "/a?b=c"]),
    interval_secs=st.none() | st.floats(1, 3600),
    metric_names=st.lists(st.sampled_from(["http_*", "!go_*"]), max_size=2).map(tuple),
)


@st.composite
def _healths(draw: Callable[..., Any], port: int | None) -> HealthSpec:
    kind = draw(st.sampled_from(HealthKind))
    needs_port = kind is not HealthKind.EXEC and port is None
    return HealthSpec(
        kind=kind,
        path=draw(st.from_regex(r"/[A-Za-z0-9._~/?=&%-]{0,20}", fullmatch=True)),
        port=draw(_ports if needs_port else st.none() | _ports),
        command=tuple(draw(st.lists(_texts.filter(bool), min_size=1, max_size=3))),
        interval=draw(_seconds),
        timeout=draw(_seconds),
        retries=draw(st.integers(1, 100)),
        start_period=draw(st.floats(0, 3600, allow_nan=False)),
    )


_words = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,10}", fullmatch=True)
_limits = st.integers(0, 2**40).flatmap(lambda soft: st.tuples(st.just(soft), st.integers(soft, 2**41)))


@st.composite
def container_options(draw: Callable[..., Any]) -> ContainerOptions:
    """Any options that a payload can ask for; what is mounted is below /mem, where no volume of `_volumes` is."""
    mounts = draw(st.lists(_paths.map("/mem".__add__), max_size=2, unique=True))
    limits = draw(st.dictionaries(st.sampled_from(["core", "nofile", "nproc"]), _limits))
    addresses = st.sampled_from(["10.0.0.5", "fd00::1", "host-gateway"])
    return ContainerOptions(
        entrypoint=tuple(draw(st.lists(_texts, max_size=2))),
        user=draw(st.none() | _words | st.tuples(_words, _words).map(":".join)),
        working_dir=draw(st.none() | _paths.map("/srv".__add__)),
        init=draw(st.booleans()),
        stop_signal=draw(st.sampled_from([None, "SIGQUIT", "SIGRTMIN+3", "9"])),
        stop_grace_secs=draw(st.none() | st.floats(0, 3600, allow_nan=False)),
        shm_bytes=draw(st.none() | st.integers(1, 2**40)),
        tmpfs=tuple(Tmpfs(path=path, options=draw(st.sampled_from(["", "size=64m,ro"]))) for path in mounts),
        ulimits=tuple(Ulimit(name=name, soft=soft, hard=hard) for name, (soft, hard) in sorted(limits.items())),
        extra_hosts=tuple(
            ExtraHost(name=draw(st.sampled_from(["db", "a.b-c", "gw"])), address=draw(addresses))
            for _ in range(draw(st.integers(0, 2)))
        ),
        read_only=draw(st.booleans()),
        cap_drop=tuple(draw(st.lists(st.sampled_from(["ALL", "NET_RAW", "CHOWN"]), max_size=2, unique=True))),
    )


@st.composite
def _volumes(draw: Callable[..., Any]) -> tuple[VolumeMount, ...]:
    def mount(target: str) -> VolumeMount:
        bound = draw(st.booleans())
        return VolumeMount(
            name=draw(_texts if bound else st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{1,20}", fullmatch=True)),
            host_path=draw(_paths | st.just("/")) if bound else None,
            container_path=target,
            read_only=draw(st.booleans()),
            external=not bound and draw(st.booleans()),
        )

    return tuple(mount(target) for target in draw(st.lists(_paths, max_size=3, unique=True)))


header_names = st.from_regex(r"X-[A-Za-z0-9-]{1,20}", fullmatch=True)
header_values = st.from_regex(r"[ -~]{0,20}", fullmatch=True).filter(lambda value: "{{" not in value)
path_prefixes = st.from_regex(r"(?:/[A-Za-z0-9_~!$&()*+,;=:@-]{1,8}){1,3}", fullmatch=True)
hosts = st.from_regex(r"[a-z0-9]{1,8}(?:-{1,3}[a-z0-9]{1,5})?(?:\.[a-z0-9]{1,6}){1,3}", fullmatch=True)
domains = hosts | hosts.map("*.".__add__)


@st.composite
def routings(draw: Callable[..., Any]) -> Routing:
    """Any routing that a payload can ask for."""
    prefix = draw(st.none() | path_prefixes)
    headers = draw(st.lists(st.tuples(header_names, header_values), max_size=3, unique_by=lambda pair: pair[0].lower()))
    return Routing(
        path_prefix=prefix,
        strip_prefix=draw(st.booleans()) if prefix is not None else False,
        priority=draw(st.none() | st.integers(1, 10**6)),
        sticky=draw(st.booleans()),
        response_headers=tuple(sorted(headers)),
        rate_limit=draw(st.none() | st.builds(RateLimit, average=st.integers(1, 10**6), burst=st.integers(1, 10**6))),
    )


@st.composite
def canaries(draw: Callable[..., Any]) -> Canary:
    """Any canary that a payload can ask for."""
    percents = sorted(draw(st.sets(st.integers(1, 99), max_size=4)))
    holds = st.floats(0, 86400, allow_nan=False)
    return Canary(
        steps=tuple(CanaryStep(percent=percent, hold_secs=draw(holds)) for percent in [*percents, 100]),
        max_error_percent=draw(st.none() | st.floats(0, 100, allow_nan=False)),
        min_requests=draw(st.integers(1, 10**6)),
    )


@st.composite
def deployments(draw: Callable[..., Any]) -> Deployment:
    """Any deployment that a payload can ask for."""
    port = draw(st.none() | _ports)
    host_port = draw(st.none() | _ports) if port is not None else None
    strategy = draw(st.sampled_from(Strategy))
    return Deployment(
        deployment_id=DeploymentId(draw(_ids)),
        spec=ServiceSpec(
            service_id=ServiceId(draw(_ids)),
            service_name=draw(_names),
            project_name=draw(_names),
            image=draw(images),
            command=tuple(draw(st.lists(_texts, max_size=3))),
            port=port,
            replicas=draw(st.integers(0, MAX_REPLICAS if host_port is None else 1)),
            cpu_nanos=draw(st.none() | st.integers(MIN_CPU_NANOS, 10**15 - 1)),
            memory_bytes=draw(st.none() | st.integers(MIN_MEMORY_BYTES, MAX_MEMORY_BYTES)),
            env=draw(st.dictionaries(_env_names, _texts, max_size=3)),
            labels=draw(st.dictionaries(_label_names, _texts, max_size=3)),
            volumes=draw(_volumes()),
            health=draw(st.none() | _healths(port)),
            domains=tuple(draw(st.lists(domains, max_size=3, unique=True))),
            routing=draw(routings()),
            internal_hostname=draw(st.none() | _hosts),
            host_port=host_port,
            options=draw(container_options()),
            release_command=tuple(draw(st.lists(_texts, max_size=2))),
            image_volumes=draw(st.sampled_from(ImageVolumes)),
            metrics=draw(st.none() | _metrics),
            logs=draw(_log_options),
        ),
        strategy=strategy,
        rollback_on_failure=draw(st.booleans()),
        timeout_secs=draw(st.floats(1, 86400, allow_nan=False)),
        canary=draw(canaries()) if strategy is Strategy.CANARY else Canary(),
    )


_log_options = st.builds(
    LogOptions,
    multiline=st.sampled_from(("auto", "off", r"^\d{4}-")),
    parse=st.sampled_from(PARSE),
    rate_limit=st.none()
    | st.builds(
        LogRate,
        lines_per_sec=st.floats(0, 1e9),
        bytes_per_sec=st.floats(0, 1e9),
        burst_secs=st.floats(0.1, 3600),
    ),
)

json_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(
        ["", "512m", "0.5", "/x", "a/b:c@d", "\ud800", "\0", "rolling", "http", "9" * 400, "1e400", "nan"]
    )
)
json_values = st.recursive(
    json_scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
