"""The pod template of a service. Pure."""

from __future__ import annotations

import math
from urllib.parse import urlsplit

from syntra.model.container import DEFAULT_STOP_GRACE_SECS
from syntra.model.container_options import ContainerOptions
from syntra.model.spec import Deployment, ServiceSpec
from syntra.runtime.docker.telemetry_env import OtlpPorts, telemetry_env
from syntra.runtime.kubernetes import names
from syntra.runtime.kubernetes.metadata import own_labels, service_labels
from syntra.runtime.kubernetes.objects import Object, without_empty
from syntra.runtime.kubernetes.probes import literal, probes
from syntra.runtime.kubernetes.render_context import RenderContext
from syntra.runtime.kubernetes.secrets import env_secret_name, pull_secret_name
from syntra.runtime.kubernetes.volumes import pod_volumes

_OTLP_GRPC_PORT = 4317
_OTLP_HTTP_PORT = 4318
_NANOS_PER_MILLICORE = 1_000_000


def pod_template(deployment: Deployment, context: RenderContext) -> Object:
    """`spec.template` of the slot's Deployment. Its labels contain those of the selector."""
    spec = deployment.spec
    own = own_labels(spec)
    annotations = {
        **own.annotations,
        names.SERVICE_ID: spec.service_id,
        names.DEPLOYMENT_ID: deployment.deployment_id,
    }
    if context.restarted_at:
        annotations[names.RESTARTED_AT] = context.restarted_at
    return {
        "metadata": {
            "labels": {**own.labels, **service_labels(context.owner, spec, context.slot)},
            "annotations": annotations,
        },
        "spec": _pod(deployment, context),
    }


def image_of(deployment: Deployment) -> str:
    """The image that the pods run: by digest as soon as that is known, so that a rollback is exact."""
    image, resolved = deployment.spec.image, deployment.resolved
    if image.digest is None and resolved is not None and resolved.digest:
        return f"{image.name}@{resolved.digest}"
    return image.pullable


def _pod(deployment: Deployment, context: RenderContext) -> Object:
    spec = deployment.spec
    pull_secret = pull_secret_name(spec) if context.auth is not None else context.pull_secret
    return {
        "containers": [_container(deployment, context)],
        "terminationGracePeriodSeconds": _grace_secs(spec, context.pre_stop_secs),
        # A service must not act on the cluster, and gets only the variables that it asks for.
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        **without_empty(
            (
                ("imagePullSecrets", [{"name": pull_secret}] if pull_secret else []),
                # The pause container reaps orphans, as Docker's init does.
                ("shareProcessNamespace", spec.options.init or None),
                ("hostAliases", _host_aliases(spec.options)),
                ("volumes", pod_volumes(spec).volumes),
            )
        ),
    }


def _container(deployment: Deployment, context: RenderContext) -> Object:
    spec = deployment.spec
    env_secret = env_secret_name(spec)
    image = image_of(deployment)
    return {
        "name": names.CONTAINER,
        "image": image,
        "imagePullPolicy": "IfNotPresent" if "@" in image or spec.image.may_serve_from_cache else "Always",
        "env": [{"name": key, "value": literal(found)} for key, found in _agent_env(deployment, context).items()],
        **probes(spec.health),
        **without_empty(
            (
                # Docker's entrypoint and command (API reference, "Container v1 core").
                ("command", [literal(part) for part in spec.options.entrypoint]),
                ("args", [literal(part) for part in spec.command]),
                ("workingDir", spec.options.working_dir),
                ("envFrom", [{"secretRef": {"name": env_secret}}] if env_secret else []),
                ("ports", _ports(spec)),
                ("resources", _resources(spec, context.cpu_request_fraction)),
                ("volumeMounts", pod_volumes(spec).mounts),
                ("securityContext", _security(spec.options)),
                ("lifecycle", _lifecycle(spec, context)),
            )
        ),
    }


def _agent_env(deployment: Deployment, context: RenderContext) -> dict[str, str]:
    """The agent's own variables. They win over those of the Secret."""
    host, ports = "", None
    if context.otlp_endpoint:
        at = urlsplit(context.otlp_endpoint)
        host, ports = at.hostname or "", OtlpPorts(grpc=_OTLP_GRPC_PORT, http=at.port or _OTLP_HTTP_PORT)
    return {
        "SYNTRA_SERVICE_ID": deployment.spec.service_id,
        "SYNTRA_DEPLOYMENT_ID": deployment.deployment_id,
        **telemetry_env(deployment, host, ports),
    }


def _ports(spec: ServiceSpec) -> list[Object]:
    if spec.port is None:
        return []
    port: Object = {"name": names.PORT_NAME, "containerPort": spec.port, "protocol": "TCP"}
    return [port if spec.host_port is None else {**port, "hostPort": spec.host_port}]


def _resources(spec: ServiceSpec, cpu_request_fraction: float) -> Object:
    """Memory is in plain bytes: Kubernetes reads Docker's `512m` as half a byte, without an error."""
    limits: Object = {}
    requests: Object = {}
    if spec.cpu_nanos is not None:
        limit = math.ceil(spec.cpu_nanos / _NANOS_PER_MILLICORE)
        limits["cpu"] = f"{limit}m"
        requests["cpu"] = f"{min(limit, max(1, math.ceil(limit * cpu_request_fraction)))}m"
    if spec.memory_bytes is not None:
        limits["memory"] = requests["memory"] = str(spec.memory_bytes)
    return {"limits": limits, "requests": requests} if limits else {}


def _security(options: ContainerOptions) -> Object:
    user, _, group = (options.user or "").partition(":")
    return without_empty(
        (
            ("runAsUser", int(user) if user else None),
            ("runAsGroup", int(group) if group else None),
            ("readOnlyRootFilesystem", options.read_only or None),
            ("capabilities", {"drop": list(options.cap_drop)} if options.cap_drop else None),
        )
    )


def _lifecycle(spec: ServiceSpec, context: RenderContext) -> Object:
    secs = context.pre_stop_secs
    if spec.port is None or not secs:
        # Without a port it gets no requests that could be cut.
        return {}
    if context.sleep_action:
        return {"preStop": {"sleep": {"seconds": secs}}}
    return {"preStop": {"exec": {"command": ["sleep", str(secs)]}}}


def _grace_secs(spec: ServiceSpec, pre_stop_secs: int) -> int:
    asked = spec.options.stop_grace_secs
    grace = math.ceil(DEFAULT_STOP_GRACE_SECS if asked is None else asked)
    # Zero would be a kill without the stop signal.
    return max(1, grace) + (0 if spec.port is None else pre_stop_secs)


def _host_aliases(options: ContainerOptions) -> list[Object]:
    """Lines of /etc/hosts, one for each address: the API's list has the address as its key."""
    by_address: dict[str, list[str]] = {}
    for host in options.extra_hosts:
        found = by_address.setdefault(host.address, [])
        if host.name not in found:
            found.append(host.name)
    return [{"ip": address, "hostnames": hostnames} for address, hostnames in by_address.items()]
