"""Service specs from and to the deploy payload of the wire contract, older shapes included.

The payload form is also what the journal keeps (sealed), so `parse(render(deployment))` gives the same deployment.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re

from syntra.model import ids
from syntra.model.autoscale_payload import parse_autoscale, render_autoscale
from syntra.model.canary_payload import parse_canary, render_canary
from syntra.model.env_payload import parse_spec_env
from syntra.model.errors import InvalidField
from syntra.model.fields import Fields, Json
from syntra.model.health_payload import parse_health, render_health
from syntra.model.image_payload import read_image
from syntra.model.log_options import LogOptions
from syntra.model.log_options_payload import parse_log_options, render_log_options
from syntra.model.metrics_payload import parse_metrics, render_metrics
from syntra.model.options_payload import parse_options, render_options
from syntra.model.paths import absolute_path
from syntra.model.routing_payload import parse_routing, read_domains, render_routing
from syntra.model.spec import (
    Deployment,
    ImageVolumes,
    RegistryAuth,
    Routing,
    ServiceSpec,
    Strategy,
    VolumeMount,
)
from syntra.utils.quantities import parse_bytes, parse_nano_cpus

MAX_REPLICAS = 100
MAX_TIMEOUT_SECS = 24 * 3600.0
# Less memory than this and the engine itself refuses the container (Engine API, HostConfig.Memory).
MIN_MEMORY_BYTES = 6 * 1024 * 1024
MAX_MEMORY_BYTES = 2**63 - 1
# The kernel's least quota is 1 ms per period of 100 ms. A millionth of that would count as no limit at all.
MIN_CPU_NANOS = 10_000_000

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_HOST_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{1,127}")
# A `traefik.` label would claim a host past the agent, which keeps two services from claiming one.
_RESERVED_LABELS = ("syntra.", "com.docker.", "traefik.")


def parse_deployment(payload: Fields) -> Deployment:
    """The deployment of a `deploy` payload in any of its shapes; raises InvalidField."""
    service = payload.section("service") or payload
    config = payload.section("config") or service
    networking = payload.section("networking") or payload
    service_id = ids.service_id(*_id_field(payload, service, "service_id"))
    port = _port(config, payload)
    replicas = (config if config.has("replicas") else payload).integer("replicas", default=1, low=0, high=MAX_REPLICAS)
    autoscale = parse_autoscale(payload.section("config"))
    if autoscale is not None:
        replicas = min(max(replicas, autoscale.least), autoscale.most)
    limits = config.section("resources") or payload.section("resources") or config
    host_port = _host_port(networking, port)
    if host_port is not None and replicas > 1:
        raise InvalidField(
            networking.at("expose_port"),
            f"{replicas} replicas cannot share host port {host_port}; use 1 replica or no expose_port",
        )
    env, env_secrets = parse_spec_env(config if config.has("env_vars", "env", "env_secrets") else payload)
    spec = ServiceSpec(
        service_id=service_id,
        service_name=_service_name(payload, service, service_id),
        project_name=_named(payload, "project_name", "project", default="default"),
        image=read_image(payload, service),
        command=(config if config.has("command") else payload).texts("command"),
        port=port,
        replicas=replicas,
        cpu_nanos=_cpu(limits),
        memory_bytes=_memory(limits),
        env=env,
        env_secrets=env_secrets,
        labels=_labels(config if config.has("labels") else payload),
        volumes=_volumes(config if config.has("volumes") else payload),
        health=parse_health(config if config.has("health_check") else payload, port),
        domains=read_domains(networking),
        # Only from its own section: in the flat shapes a `priority` may be about something else.
        routing=parse_routing(payload.section("networking")),
        internal_hostname=_hostname(networking),
        host_port=host_port,
        # From this section alone: in the flat shapes a `user` may be about something else.
        options=parse_options(payload.section("config")),
        release_command=config.texts("release_command"),
        image_volumes=config.choice(
            "image_volumes", among={kind.value: kind for kind in ImageVolumes}, default=ImageVolumes.KEEP
        ),
        metrics=parse_metrics(config, port),
        # From its section alone: in the flat shapes, `logs` may be about something else.
        logs=parse_log_options(section.section("logs") if (section := payload.section("config")) else None),
        autoscale=autoscale,
    )
    _refuse_shared_mounts(spec, config)
    strategy = payload.choice("strategy", among={s.value: s for s in Strategy}, default=Strategy.ROLLING)
    return Deployment(
        deployment_id=ids.deployment_id(payload.at("deployment_id"), payload.text("deployment_id")),
        spec=spec,
        strategy=strategy,
        rollback_on_failure=payload.boolean("rollback_on_failure", default=True),
        timeout_secs=payload.number("timeout_seconds", "timeout", default=300.0, low=1, high=MAX_TIMEOUT_SECS),
        canary=parse_canary(payload.section("canary"), strategy),
    )


def parse_registry_auth(payload: Fields) -> RegistryAuth | None:
    """The short-lived registry credentials beside a deploy, or None."""
    auth = payload.section("registry_auth")
    if auth is None:
        return None
    username, password = auth.optional_text("username"), auth.secret("password")
    if not username and not password:
        return None
    if not username or password is None:
        raise InvalidField(auth.path, "needs both username and password")
    return RegistryAuth(username=username, password=password)


def render_deployment(deployment: Deployment) -> dict[str, Json]:
    """The current payload shape of a deployment, without credentials."""
    spec = deployment.spec
    return {
        "deployment_id": deployment.deployment_id,
        "service_id": spec.service_id,
        "service_name": spec.service_name,
        "project_name": spec.project_name,
        "image": {
            "registry": spec.image.registry,
            "repository": spec.image.repository,
            "tag": spec.image.tag,
            "digest": spec.image.digest,
        },
        "config": {
            "port": spec.port,
            "replicas": spec.replicas,
            "cpu_limit": f"{spec.cpu_nanos / 1e9:.9f}" if spec.cpu_nanos else None,
            "memory_limit": str(spec.memory_bytes) if spec.memory_bytes else None,
            "command": list(spec.command),
            "env_vars": dict(spec.env),
            **({"env_secrets": dict(spec.env_secrets)} if spec.env_secrets else {}),
            "labels": dict(spec.labels),
            "volumes": [_render_volume(volume) for volume in spec.volumes],
            "health_check": render_health(spec.health) if spec.health is not None else None,
            **render_options(spec.options),
            **({"release_command": list(spec.release_command)} if spec.release_command else {}),
            # Only when it is not the default: containers are recognised by the fingerprint of this.
            **({"image_volumes": spec.image_volumes.value} if spec.image_volumes is not ImageVolumes.KEEP else {}),
            **({"metrics": render_metrics(spec.metrics)} if spec.metrics is not None else {}),
            **({"autoscale": render_autoscale(spec.autoscale)} if spec.autoscale is not None else {}),
            **({"logs": logs} if (logs := render_log_options(spec.logs)) else {}),
        },
        "networking": {
            "domains": list(spec.domains),
            "internal_hostname": spec.internal_hostname,
            "expose_port": spec.host_port,
            **render_routing(spec.routing),
        },
        "strategy": deployment.strategy.value,
        "rollback_on_failure": deployment.rollback_on_failure,
        "timeout_seconds": deployment.timeout_secs,
        **render_canary(deployment),
    }


def fingerprint(spec: ServiceSpec) -> str:
    """16 hex digits that differ when any setting of a container differs.

    The number of replicas is none, nor how the proxy reaches them, what a deploy runs before, how the log is read, what
    is scraped, or which secret a value comes from: a new domain needs no new container.
    """
    as_one = dataclasses.replace(
        spec,
        replicas=1,
        domains=(),
        routing=Routing(),
        release_command=(),
        metrics=None,
        logs=LogOptions(),
        autoscale=None,
        env_secrets=(),
    )
    payload = render_deployment(
        Deployment(
            deployment_id=ids.DeploymentId("any"),
            spec=as_one,
            strategy=Strategy.ROLLING,
            rollback_on_failure=True,
            timeout_secs=0,
        )
    )
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()[:16]


def _render_volume(volume: VolumeMount) -> dict[str, Json]:
    return {
        "name": volume.name,
        "host_path": volume.host_path,
        "container_path": volume.container_path,
        "read_only": volume.read_only,
        **({"external": True} if volume.external else {}),
    }


def _id_field(payload: Fields, service: Fields, key: str) -> tuple[str, str]:
    if service is not payload and service.has("id"):
        return service.at("id"), service.text("id")
    return payload.at(key), payload.text(key)


def _service_name(payload: Fields, service: Fields, service_id: ids.ServiceId) -> str:
    if service is not payload and service.optional_text("name"):
        return _named(service, "name")
    return _named(payload, "service_name", "name", default=service_id)


def _named(source: Fields, *keys: str, default: str | None = None) -> str:
    path, _ = source.raw(*keys)
    name = source.text(*keys, default=default)
    if _NAME.fullmatch(name) is None:
        raise InvalidField(path, f"{name[:60]!r} is not a name (letters, digits, `_`, `.`, `-`; ≤ 63)")
    return name


def _port(config: Fields, payload: Fields) -> int | None:
    source = config if config.has("port") else payload
    return source.integer("port", low=1, high=65535) if source.has("port") else None


def _host_port(networking: Fields, port: int | None) -> int | None:
    path, value = networking.raw("expose_port")
    if value is None or value is False or value == 0:
        return None
    if port is None:
        raise InvalidField(path, "needs config.port, the port inside the container")
    return port if value is True else networking.integer("expose_port", low=1, high=65535)


def _cpu(limits: Fields) -> int | None:
    path, _ = limits.raw("cpu_limit", "cpu")
    text = limits.quantity("cpu_limit", "cpu")
    if text is None:
        return None
    nanos = parse_nano_cpus(text)
    if nanos is None:
        raise InvalidField(path, f"{text[:40]!r} is not a CPU share (like 0.5, 2 or 250m)")
    if nanos < MIN_CPU_NANOS:
        raise InvalidField(path, f"{text[:40]!r} is less than the 0.01 of a core that can be enforced")
    return nanos


def _memory(limits: Fields) -> int | None:
    path, _ = limits.raw("memory_limit", "memory")
    text = limits.quantity("memory_limit", "memory")
    if text is None:
        return None
    size = parse_bytes(text)
    if size is None or size > MAX_MEMORY_BYTES:
        raise InvalidField(path, f"{text[:40]!r} is not a size (like 512m, 1.5g, 256MB or bytes)")
    if size < MIN_MEMORY_BYTES:
        raise InvalidField(path, f"{text[:40]!r} is less than the 6 MB a container needs")
    return size


def _labels(source: Fields) -> dict[str, str]:
    labels = source.text_map("labels")
    for key in labels:
        if not key or key.startswith(_RESERVED_LABELS):
            raise InvalidField(
                source.at("labels"),
                f"{key[:60]!r} is reserved, as are all that start with {', '.join(_RESERVED_LABELS)}",
            )
    return labels


def _volumes(source: Fields) -> tuple[VolumeMount, ...]:
    mounts: list[VolumeMount] = []
    for item in source.sections("volumes", limit=100):
        path, _ = item.raw("container_path", "mount_path", "target")
        target = item.text("container_path", "mount_path", "target")
        container_path = absolute_path(target)
        if container_path is None or container_path == "/":
            raise InvalidField(path, f"{target[:80]!r} is not an absolute path below `/`, without `..`")
        if any(mount.container_path == container_path for mount in mounts):
            raise InvalidField(path, f"two volumes are mounted at {container_path[:80]}")
        bind = item.optional_text("host_path")
        host_path = absolute_path(bind) if bind else None
        name = item.text("name", default="") if bind else item.text("name")
        if bind and host_path is None:
            raise InvalidField(item.at("host_path"), f"{bind[:80]!r} is not an absolute path without `..`")
        if not bind and _VOLUME.fullmatch(name) is None:
            raise InvalidField(item.at("name"), f"{name[:60]!r} is not a volume name")
        external = item.boolean("external", default=False)
        if bind and external:
            raise InvalidField(item.at("external"), "is for a named volume, and this one has a host_path")
        mounts.append(
            VolumeMount(
                name=name,
                host_path=host_path,
                container_path=container_path,
                read_only=item.boolean("read_only", default=False),
                external=external,
            )
        )
    return tuple(mounts)


def _refuse_shared_mounts(spec: ServiceSpec, config: Fields) -> None:
    taken = {volume.container_path for volume in spec.volumes}
    for mount in spec.options.tmpfs:
        if mount.path in taken:
            raise InvalidField(config.at("tmpfs"), f"a volume is mounted at {mount.path[:80]} already")


def _hostname(networking: Fields) -> str | None:
    text = networking.optional_text("internal_hostname")
    if text is None:
        return None
    if len(text) > 253 or not all(_HOST_LABEL.fullmatch(label) for label in text.lower().split(".")):
        raise InvalidField(networking.at("internal_hostname"), f"{text[:80]!r} is not a host name")
    return text.lower()
