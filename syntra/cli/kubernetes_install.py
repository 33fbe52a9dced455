"""`install --kubernetes` and `uninstall --kubernetes`: the agent in a cluster, by the user's kubeconfig."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path

import yaml

from syntra.agent.config import sources
from syntra.agent.config.errors import ConfigurationError
from syntra.agent.config.files import FileProblem, read_small
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.terminal import out, printable
from syntra.install import cluster
from syntra.install.cluster_objects import NAME, ClusterAgent, objects
from syntra.install.first_configuration import configuration
from syntra.runtime.kubernetes.access import Access, find_source
from syntra.runtime.kubernetes.client import KubernetesClient


def install(args: argparse.Namespace, *, endpoint: str | None, server_id: str | None, token: str | None) -> int:
    """Print or apply the objects; wait until the agent runs. An earlier install's configuration and token are kept."""
    if args.no_start:
        raise CliError(
            "cannot use --no-start with --kubernetes: the cluster starts the agent; leave it out", ExitCode.USAGE
        )
    if args.token is not None:
        # The shell's history and the list of processes would have it, on a machine that the agent never runs on.
        raise CliError(
            "cannot use --token with --kubernetes: other users of this machine could read it; give --token-file FILE",
            ExitCode.USAGE,
        )
    given = None if args.config is None else _configuration_file(args.config)
    if args.print or args.dry_run:
        agent = _agent(args, cluster.Kept(), given, endpoint=endpoint, server_id=server_id, token=token)
        if args.dry_run:
            for obj in objects(agent):
                out(f"apply {obj['kind']} {printable(str(_metadata(obj)['name']))}")
        else:
            out(_yaml(agent))
        return ExitCode.OK

    async def work(client: KubernetesClient) -> int:
        kept = await cluster.kept(client, args.namespace)
        is_others = await cluster.is_others(client, args.namespace)
        agent = _agent(
            args, kept, given, endpoint=endpoint, server_id=server_id, token=token, has_namespace=not is_others
        )
        await cluster.install(client, agent, wait_secs=args.wait, say=_say)
        out(f"the agent runs in namespace {args.namespace}")
        out(f"next: `kubectl -n {args.namespace} exec deploy/{NAME} -- {NAME} status`")
        return ExitCode.OK

    return _with_client(args, work)


def uninstall(args: argparse.Namespace) -> int:
    """Delete what `install --kubernetes` applied. Services keep running."""
    if args.stop_services:
        raise CliError(
            "cannot use --stop-services with --kubernetes: services in a cluster are not removed with the agent; "
            "remove them first, with `stop --remove`",
            ExitCode.USAGE,
        )
    if args.dry_run:
        out(f"delete what `install --kubernetes` applied in namespace {args.namespace}")
        return ExitCode.OK

    async def work(client: KubernetesClient) -> int:
        if await cluster.uninstall(client, args.namespace, say=_say):
            out("removed; the services keep running, and the cluster restarts them")
        else:
            out(f"nothing to do: there is no agent in namespace {args.namespace}")
        return ExitCode.OK

    return _with_client(args, work)


def _with_client(args: argparse.Namespace, work: Callable[[KubernetesClient], Awaitable[int]]) -> int:
    async def connected() -> int:
        source = find_source(args.kubeconfig, os.environ)
        if source is None:
            raise CliError("cannot find a cluster: there is no kubeconfig; give one with --kubeconfig FILE")
        async with KubernetesClient(await Access.open(source)) as client:
            return await work(client)

    return asyncio.run(connected())


def _agent(
    args: argparse.Namespace,
    kept: cluster.Kept,
    given: str | None,
    *,
    endpoint: str | None,
    server_id: str | None,
    token: str | None,
    has_namespace: bool = True,
) -> ClusterAgent:
    if given is None and kept.configuration is not None:
        _check_kept(kept.configuration, {"control_plane.endpoint": endpoint, "server_id": server_id})
    text = given or kept.configuration or _first_configuration(endpoint, server_id)
    if given is not None and (endpoint is not None or server_id is not None):
        raise CliError(
            "cannot use --endpoint or --server-id with --config: the file has them; set them there", ExitCode.USAGE
        )
    values = _values(text)
    has_endpoint = values.get("control_plane.endpoint") is not None
    token = token or (kept.token or "").strip() or None
    if has_endpoint and token is None:
        raise CliError("cannot install the agent: the control plane needs a token; give it with --token-file FILE")
    if not has_endpoint and token is not None:
        raise CliError("cannot install the agent: there is a token but no control plane; give its --endpoint")
    return ClusterAgent(
        namespace=args.namespace,
        image=args.image,
        configuration=text,
        token=token,
        volume_size="" if args.no_volume else args.volume_size,
        storage_class=args.storage_class,
        receives=values.get("telemetry.receivers", "on") == "on" and not values.get("kubernetes.otlp_endpoint"),
        has_namespace=has_namespace,
    )


def _first_configuration(endpoint: str | None, server_id: str | None) -> str:
    return configuration(
        agent_id=f"agt_{secrets.token_hex(8)}",
        server_id=server_id or f"srv_{secrets.token_hex(8)}",
        endpoint=endpoint,
        # A pod has the agent of its image.
        update={"mode": "off"},
    )


def _configuration_file(file: Path) -> str:
    try:
        text = read_small(file, limit=sources.SIZE_MAX).data.decode()
    except (FileProblem, UnicodeDecodeError) as problem:
        raise CliError(f"cannot read {file}: {problem}; check --config", ExitCode.CONFIGURATION) from problem
    if _values(text, str(file)).get("control_plane.token") is not None:
        raise CliError(
            f"cannot use {file}: it holds the token; remove control_plane.token and give --token-file FILE",
            ExitCode.CONFIGURATION,
        )
    return text


def _values(text: str, source: str = "the configuration") -> dict[str, object]:
    try:
        document = sources.Document(tables=tomllib.loads(text), mode=0o600)
    except (tomllib.TOMLDecodeError, RecursionError) as wrong:
        raise CliError(f"cannot use {source}: it is not valid TOML: {wrong}", ExitCode.CONFIGURATION) from wrong
    try:
        return {**sources.checked(document, source)}
    except ConfigurationError as wrong:
        raise CliError(str(wrong), ExitCode.CONFIGURATION) from wrong


def _check_kept(text: str, wanted: dict[str, str | None]) -> None:
    has = _values(text, f"the configuration in Secret {NAME}")
    for key, value in wanted.items():
        if value is not None and value != has.get(key):
            raise CliError(
                f"cannot install the agent: the configuration in Secret {NAME} has {key} = {has.get(key) or 'nothing'} "
                f"and is kept; give a whole configuration with --config FILE, or omit the option"
            )


def _yaml(agent: ClusterAgent) -> str:
    text = yaml.safe_dump_all(objects(agent), sort_keys=False, explicit_start=True)
    secret = ", and the token of the control plane" if agent.token is not None else ""
    return f"# Keep this file secret: it has the configuration of the agent with its ids{secret}.\n{text.rstrip()}"


def _metadata(obj: dict[str, object]) -> dict[str, object]:
    found = obj["metadata"]
    assert isinstance(found, dict), "cannot happen because every object is rendered with metadata"
    return found


def _say(line: str) -> None:
    out(printable(line))
