"""Installs the agent in a cluster, and removes it, with the rights of the user who runs this."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Callable

from syntra.install.cluster_objects import (
    CONFIGURATION,
    FIELD_MANAGER,
    NAME,
    TOKEN,
    ClusterAgent,
    deployment_id,
    objects,
    role_name,
)
from syntra.install.errors import InstallError
from syntra.runtime.kubernetes.client import KubernetesClient
from syntra.runtime.kubernetes.errors import ApiRefusal
from syntra.runtime.kubernetes.names import MANAGED_BY, MANAGER
from syntra.runtime.kubernetes.objects import Object, label, name, text, texts
from syntra.runtime.kubernetes.resources import (
    CLAIM,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    DEPLOYMENT,
    EVENT,
    LEASE,
    NAMESPACE,
    POD,
    REPLICA_SET,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    Kind,
)
from syntra.runtime.kubernetes.verdict import Done, Failed, Waiting, judge
from syntra.utils.frozen import frozen

LOOK_SECS = 1.0
ENDED_SECS = 90.0
"""Longer than a pod of the agent may take to end."""

Say = Callable[[str], None]
_OURS = f"{MANAGED_BY}={FIELD_MANAGER}"


@frozen
class Kept:
    """What an earlier install left in the Secret. Both are None where there is none."""

    configuration: str | None = None
    token: str | None = None


async def kept(client: KubernetesClient, namespace: str) -> Kept:
    """The configuration and the token of the agent that is installed."""
    secret = await _found(client, SECRET, namespace, NAME)
    if secret is None or not _is_ours(secret):
        return Kept()
    data = texts(secret, "data")
    return Kept(configuration=_decoded(data.get(CONFIGURATION)), token=_decoded(data.get(TOKEN)))


async def is_others(client: KubernetesClient, namespace: str) -> bool:
    """Whether the namespace exists and no install has made it."""
    found = await _found(client, NAMESPACE, None, namespace)
    return found is not None and not _is_ours(found)


async def install(client: KubernetesClient, agent: ClusterAgent, *, wait_secs: float, say: Say) -> None:
    """Apply the objects, and wait until the agent runs. What was applied stays. Raises InstallError and RuntimeFailure.

    Raises as soon as the pod tells that it will not run.
    """
    since = time.time()
    for obj in objects(agent):
        await client.apply(obj, manager=FIELD_MANAGER)
        say(f"applied {_shown(obj)}")
    deadline = time.monotonic() + wait_secs
    while True:
        verdict = await _verdict(client, agent, since)
        if isinstance(verdict, Done):
            return
        if isinstance(verdict, Failed):
            raise _failed(verdict.sentence)
        if time.monotonic() >= deadline:
            raise _failed(verdict.text)
        await asyncio.sleep(LOOK_SECS)


async def uninstall(client: KubernetesClient, namespace: str, *, say: Say) -> bool:
    """Delete what `install` applied, and no more; False when there is nothing. Raises InstallError and RuntimeFailure.

    The agent ends before its rights are deleted. A namespace with other objects stays.
    """
    found = await _installed(client, namespace)
    for kind, obj in found:
        await client.delete(kind, namespace if kind.is_namespaced else None, name(obj))
        say(f"deleted {_shown(obj)}")
        if kind is DEPLOYMENT:
            await _until_ended(client, namespace)
    space = await _found(client, NAMESPACE, None, namespace)
    if space is None or not _is_ours(space):
        return bool(found)
    if others := await _others(client, namespace):
        say(f"namespace {namespace} stays: it has {', '.join(others)}")
        return bool(found)
    await client.delete(NAMESPACE, None, namespace, is_foreground=False)
    say(f"deleted {_shown(space)}")
    return True


async def _installed(client: KubernetesClient, namespace: str) -> list[tuple[Kind, Object]]:
    found: list[tuple[Kind, Object]] = []
    for kind in (DEPLOYMENT, SERVICE, CLAIM, SECRET):
        found += [(kind, obj) for obj in (await client.list(kind, namespace, labels=_OURS))[0]]
    for kind in (CLUSTER_ROLE_BINDING, CLUSTER_ROLE):
        obj = await _found(client, kind, None, role_name(namespace))
        if obj is not None and _is_ours(obj):
            found.append((kind, obj))
    found += [(SERVICE_ACCOUNT, obj) for obj in (await client.list(SERVICE_ACCOUNT, namespace, labels=_OURS))[0]]
    if found:
        # The agent's own: nothing else has a lease with this label here.
        leases, _ = await client.list(LEASE, namespace, labels=f"{MANAGED_BY}={MANAGER}")
        found += [(LEASE, obj) for obj in leases]
    return found


async def _others(client: KubernetesClient, namespace: str) -> list[str]:
    """What else is in the namespace, of the kinds that people miss."""
    found = []
    for kind in (POD, DEPLOYMENT, SERVICE, CLAIM, SECRET):
        listed, _ = await client.list(kind, namespace)
        found += [f"{kind.kind} {name(obj)}" for obj in listed if not text(obj, "metadata", "deletionTimestamp")]
    return found


async def _verdict(client: KubernetesClient, agent: ClusterAgent, since: float) -> Waiting | Done | Failed:
    space = agent.namespace
    workload = await client.get(DEPLOYMENT.path(space, NAME), what=f"read Deployment {NAME}")
    replica_sets, _ = await client.list(REPLICA_SET, space)
    pods, _ = await client.list(POD, space)
    events, _ = await client.list(EVENT, space)
    return judge(workload, replica_sets, pods, events, now=time.time(), since=since, deployment_id=deployment_id(agent))


async def _until_ended(client: KubernetesClient, namespace: str) -> None:
    deadline = time.monotonic() + ENDED_SECS
    selector = f"app.kubernetes.io/name={NAME}"
    while (await client.list(POD, namespace, labels=selector))[0]:
        if time.monotonic() >= deadline:
            raise InstallError(
                f"cannot remove the agent: its pod has not ended within {ENDED_SECS:g} s; run this again"
            )
        await asyncio.sleep(LOOK_SECS)


async def _found(client: KubernetesClient, kind: Kind, namespace: str | None, wanted: str) -> Object | None:
    try:
        found = await client.get(kind.path(namespace, wanted), what=f"read {kind.kind} {wanted}")
    except ApiRefusal as refused:
        if refused.is_not_found:
            return None
        raise
    found.update(apiVersion=kind.api_version, kind=kind.kind)
    return found


def _is_ours(obj: Object) -> bool:
    return label(obj, MANAGED_BY) == FIELD_MANAGER


def _shown(obj: Object) -> str:
    return f"{text(obj, 'kind')} {name(obj)}"


def _decoded(data: str | None) -> str | None:
    if data is None:
        return None
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def _failed(reason: str) -> InstallError:
    hint = "; `--no-volume` installs without a volume" if "PersistentVolumeClaim" in reason else ""
    return InstallError(
        f"cannot start the agent: {reason}{hint}; what was applied stays: run this again, or "
        "`syntra-agent uninstall --kubernetes`"
    )
