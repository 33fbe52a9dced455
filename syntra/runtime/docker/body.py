"""Builds the body of `POST /containers/create` for one replica, its name and its labels. Pure.

The labels contain all that is needed to adopt a container without the journal: ids, replica index, the spec's hash, and
the spec without its environment values (they are in the container's own Env).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import field, replace

from syntra.model.container import NameSource
from syntra.model.container_options import ContainerOptions
from syntra.model.errors import RequestError
from syntra.model.fields import Fields, Json
from syntra.model.ids import DeploymentId, ServiceId
from syntra.model.network import ContainerDns
from syntra.model.spec import Deployment, ServiceSpec
from syntra.model.spec_payload import fingerprint, parse_deployment, render_deployment
from syntra.model.volume import Mounts
from syntra.runtime.containers.volumes import as_written
from syntra.runtime.docker.telemetry_env import OtlpPorts, telemetry_env
from syntra.utils.frozen import frozen

MANAGED = "syntra.managed"
OWNER = "syntra.owner"
SERVICE = "syntra.service_id"
DEPLOYMENT = "syntra.deployment_id"
REPLICA = "syntra.replica"
SPEC_HASH = "syntra.spec_hash"
SPEC = "syntra.spec"
PROJECT = "syntra.project"
NAMES = "syntra.names"
INSTANCE = "syntra.instance"
"""Drawn for each container; see `identity`."""
IMAGE_DIGEST = "syntra.image_digest"
"""The registry's digest of the image, for a journal that is lost."""
KIND = "syntra.kind"
"""Not empty only on the agent's containers that are not replicas."""
RELEASE = "release"

KEEP_PREFIX = "syntra-keep/"
# The engine's default log driver never deletes logs; a service must not fill its host's disk.
LOG_LIMITS = {"max-size": "10m", "max-file": "3"}


@frozen
class ContainerContext:
    """What the engine, the project and the agent add to a container."""

    owner: str
    instance: str
    image: str
    stop_signal: str | None
    network: str
    gateway: str
    """The network's gateway, where the agent's receivers listen."""
    otlp_ports: OtlpPorts | None
    logging_driver: str
    # For a proxy that reads labels; empty where there is none.
    route_labels: Mapping[str, str] = field(default_factory=dict)
    # The container's DNS settings; None: only the engine resolves names.
    dns: ContainerDns | None = None
    # Whether the engine's resolver also answers for the service's names.
    with_aliases: bool = True
    # Everything to mount; None: what the spec says, by the names that it gives.
    mounts: Mounts = None


def container_name(service_id: ServiceId, deployment_id: DeploymentId, index: int) -> str:
    """`syn-{service}-{deployment[:8]}` for the first replica; the others get `-{index}` appended."""
    base = f"syn-{service_id}-{deployment_id[:8]}"
    return base if index == 1 else f"{base}-{index}"


def release_name(service_id: ServiceId, deployment_id: DeploymentId) -> str:
    """The name of the container that runs a deployment's release command."""
    return f"{container_name(service_id, deployment_id, 1)}-release"


def network_name(project: str) -> str:
    """The name of a project's network."""
    return f"syntra-{project}"


def keep_tag(owner: str, service_id: ServiceId, deployment_id: DeploymentId) -> tuple[str, str]:
    """Repository and tag that pin a deployment's image. Repositories are lower-case, so the id is written in hex."""
    return f"{KEEP_PREFIX}{owner}/{service_id.encode().hex()}", deployment_id


def kept_by(owner: str, reference: str) -> tuple[ServiceId, DeploymentId] | None:
    """The deployment of `owner` that a reference pins; None when it is not a pin of that owner."""
    repository, _, tag = reference.rpartition(":")
    prefix = f"{KEEP_PREFIX}{owner}/"
    if not repository.startswith(prefix) or not tag:
        return None
    try:
        service = bytes.fromhex(repository.removeprefix(prefix)).decode()
    except ValueError:
        return None
    return ServiceId(service), DeploymentId(tag)


def create_body(deployment: Deployment, index: int, context: ContainerContext) -> dict[str, Json]:
    """The complete create body. The agent's labels and variables override the user's."""
    spec = deployment.spec
    ports: dict[str, Json] = {f"{spec.port}/tcp": {}} if spec.port is not None else {}
    body: dict[str, Json] = {
        "Image": context.image,
        "Env": [f"{key}={value}" for key, value in _environment(deployment, context).items()],
        "Labels": {**deployment.spec.labels, **context.route_labels, **_labels(deployment, index, context)},
        "ExposedPorts": ports,
        "HostConfig": _host_config(spec, context),
        "NetworkingConfig": {"EndpointsConfig": {context.network: {"Aliases": _aliases(spec, context)}}},
        # Without an explicit stop signal, a manual `docker kill -s HUP` switches the restart policy off (moby#41302).
        "StopSignal": spec.options.stop_signal or context.stop_signal or "SIGTERM",
        **_own_options(spec.options),
    }
    if spec.command:
        body["Cmd"] = list(spec.command)
    if spec.health is not None:
        body["Healthcheck"] = {"Test": ["NONE"]}
    return body


def release_body(deployment: Deployment, context: ContainerContext) -> dict[str, Json]:
    """The create body for the release command: a replica's, but for what makes it one.

    It has no name that others would find it by, no port, no routes and no check, and is never started again.
    """
    spec = replace(
        deployment.spec, command=deployment.spec.release_command, port=None, host_port=None, labels={}, health=None
    )
    wanted = create_body(replace(deployment, spec=spec), 1, context)
    host = wanted["HostConfig"]
    assert isinstance(host, dict), "cannot happen because create_body builds it"
    host["RestartPolicy"] = {"Name": "no"}
    wanted["NetworkingConfig"] = {"EndpointsConfig": {context.network: {}}}
    wanted["Healthcheck"] = {"Test": ["NONE"]}
    wanted["Labels"] = {
        **context.route_labels,
        MANAGED: "true",
        OWNER: context.owner,
        INSTANCE: context.instance,
        KIND: RELEASE,
        SERVICE: spec.service_id,
        DEPLOYMENT: deployment.deployment_id,
        PROJECT: spec.project_name,
        NAMES: _name_source(context).value,
        SPEC_HASH: fingerprint(deployment.spec),
        SPEC: _spec_label(deployment),
    }
    return wanted


def spec_from_labels(labels: Mapping[str, str], env: Mapping[str, str]) -> Deployment | None:
    """The deployment that one of the agent's containers was created from; None when its labels are incomplete."""
    try:
        payload = json.loads(labels[SPEC])
        keys = payload["config"].pop("env_keys")
        payload["config"]["env_vars"] = {key: env[key] for key in keys}
        deployment = parse_deployment(Fields(payload))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, RequestError):
        return None
    return deployment if fingerprint(deployment.spec) == labels.get(SPEC_HASH) else None


def _labels(deployment: Deployment, index: int, context: ContainerContext) -> dict[str, str]:
    spec = deployment.spec
    return {
        MANAGED: "true",
        OWNER: context.owner,
        INSTANCE: context.instance,
        SERVICE: spec.service_id,
        DEPLOYMENT: deployment.deployment_id,
        PROJECT: spec.project_name,
        REPLICA: str(index),
        SPEC_HASH: fingerprint(spec),
        SPEC: _spec_label(deployment),
        NAMES: _name_source(context).value,
        # Set also when empty: an image may have the agent's labels.
        IMAGE_DIGEST: deployment.resolved.digest if deployment.resolved else "",
        KIND: "",
    }


def _spec_label(deployment: Deployment) -> str:
    """The deployment without its environment's values."""
    payload = render_deployment(replace(deployment, spec=replace(deployment.spec, env={})))
    config = payload["config"]
    assert isinstance(config, dict), "cannot happen because render_deployment builds it"
    config["env_keys"] = sorted(deployment.spec.env)
    return json.dumps(payload, separators=(",", ":"))


def _name_source(context: ContainerContext) -> NameSource:
    if context.dns is None:
        return NameSource.ENGINE
    return NameSource.BOTH if context.with_aliases else NameSource.AGENT


def _environment(deployment: Deployment, context: ContainerContext) -> dict[str, str]:
    return {
        **deployment.spec.env,
        "SYNTRA_SERVICE_ID": deployment.spec.service_id,
        "SYNTRA_DEPLOYMENT_ID": deployment.deployment_id,
        **telemetry_env(deployment, context.gateway, context.otlp_ports),
    }


def _aliases(spec: ServiceSpec, context: ContainerContext) -> list[str]:
    if not context.with_aliases:
        return []
    names = [spec.service_name, spec.internal_hostname]
    return list(dict.fromkeys(name for name in names if name))


def _host_config(spec: ServiceSpec, context: ContainerContext) -> dict[str, Json]:
    config: dict[str, Json] = {
        "NetworkMode": context.network,
        "RestartPolicy": {"Name": "always"},
        "Mounts": [
            {
                "Type": "bind" if mount.is_bind else "volume",
                "Source": mount.source,
                "Target": mount.target,
                "ReadOnly": mount.read_only,
            }
            for mount in (as_written(spec).mounts(1) if context.mounts is None else context.mounts)
        ],
    }
    if spec.cpu_nanos is not None:
        config["NanoCpus"] = spec.cpu_nanos
    if spec.memory_bytes is not None:
        config["Memory"] = spec.memory_bytes
    if spec.host_port is not None:
        config["PortBindings"] = {f"{spec.port}/tcp": [{"HostPort": str(spec.host_port)}]}
    if context.dns is not None:
        config["Dns"] = list(context.dns.servers)
        config["DnsSearch"] = list(context.dns.search)
        config["DnsOptions"] = list(context.dns.options)
    config |= _host_options(spec.options)
    if context.logging_driver == "json-file":
        config["LogConfig"] = {"Type": "json-file", "Config": LOG_LIMITS}
    return config


def _own_options(options: ContainerOptions) -> dict[str, Json]:
    """What is asked of the container itself; only what is set."""
    found: dict[str, Json] = {
        "Entrypoint": list(options.entrypoint),
        "User": options.user,
        "WorkingDir": options.working_dir,
    }
    set_ = {key: value for key, value in found.items() if value}
    if options.stop_grace_secs is not None:
        # The engine counts whole seconds. A person's `docker stop` keeps to it too.
        set_["StopTimeout"] = math.ceil(options.stop_grace_secs)
    return set_


def _host_options(options: ContainerOptions) -> dict[str, Json]:
    """What is asked of the host; only what is set."""
    found: dict[str, Json] = {
        "Init": options.init,
        "ShmSize": options.shm_bytes,
        "Tmpfs": {mount.path: mount.options for mount in options.tmpfs},
        "Ulimits": [{"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard} for limit in options.ulimits],
        "ExtraHosts": [f"{host.name}:{host.address}" for host in options.extra_hosts],
        "ReadonlyRootfs": options.read_only,
        "CapDrop": list(options.cap_drop),
    }
    return {key: value for key, value in found.items() if value}
