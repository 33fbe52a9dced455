"""Commands from the payloads of the wire contract, older field names included."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal

from syntra.model import ids
from syntra.model.command import (
    Abort,
    Cancel,
    Command,
    ConfigureHealthCheck,
    Deploy,
    Exec,
    ExecStreams,
    InstallCertificate,
    LogsSubscribe,
    LogsUnsubscribe,
    Pace,
    PauseService,
    Promote,
    ProxyAction,
    ProxyControl,
    Query,
    QueryKind,
    RemoveSecret,
    Restart,
    RestartContainer,
    ResumeService,
    Rollback,
    Scale,
    SetSecret,
    SplitTraffic,
    Stop,
    StopContainer,
    StopDeployment,
    SwitchTraffic,
    TelemetryTail,
    UpdateAgent,
)
from syntra.model.env_payload import MAX_SECRET_BYTES, parse_env, secret_name
from syntra.model.errors import InvalidField, RequestError
from syntra.model.fields import Fields, Json
from syntra.model.health_change import parse_health_change
from syntra.model.ids import ContainerId, DeploymentId, RequestId, ServiceId
from syntra.model.image_payload import read_image
from syntra.model.paths import absolute_path
from syntra.model.spec_payload import (
    MAX_REPLICAS,
    parse_deployment,
    parse_registry_auth,
)
from syntra.utils.errors import AgentError
from syntra.utils.timestamps import format_ns, parse_ns

MAX_GRACE_SECS = 3600.0
MAX_STREAM_SECS = 7 * 24 * 3600.0
MAX_TERMINAL_SIZE = 65535
MAX_TAIL = 100_000
MAX_EVENTS = 1000
MAX_REASON_CHARS = 200
MAX_PERSON_CHARS = 100
_CONTAINER_ID = re.compile(r"[0-9a-f]{12,64}")
_EPOCH_SECS = re.compile(r"\d{1,12}(\.\d{1,9})?", re.ASCII)


def request_id_of(envelope_id: str, payload: Mapping[str, Json]) -> RequestId:
    """The request id: the payload's, else the envelope's; raises InvalidField."""
    value = Fields(payload).optional_text("request_id")
    return ids.request_id("request_id", value) if value else ids.request_id("id", envelope_id)


def parse_command(kind: str, request_id: RequestId, payload: Mapping[str, Json]) -> Command:
    """The command of a message type and payload; raises RequestError (code UNSUPPORTED for a type not known here)."""
    parser = _PARSERS.get(kind)
    if parser is None:
        raise RequestError("UNSUPPORTED", f"cannot carry out `{kind[:60]}`: this agent does not know that command")
    return parser(request_id, Fields(payload))


def _deploy(request_id: RequestId, payload: Fields) -> Command:
    return Deploy(
        request_id=request_id,
        deployment=parse_deployment(payload),
        auth=parse_registry_auth(payload),
        renames=payload.choice("on_name_conflict", among={"refuse": False, "rename": True}, default=False),
    )


def _stop(request_id: RequestId, payload: Fields) -> Command:
    return Stop(
        request_id=request_id,
        service_id=_service(payload),
        grace_secs=_grace(payload),
        remove=payload.boolean("remove_container", "remove", default=False),
    )


def _scale(request_id: RequestId, payload: Fields) -> Command:
    return Scale(
        request_id=request_id,
        service_id=_service(payload),
        replicas=payload.integer("replicas", low=0, high=MAX_REPLICAS),
        pace=payload.choice("strategy", among={p.value: p for p in Pace}, default=Pace.IMMEDIATE),
    )


def _restart(request_id: RequestId, payload: Fields) -> Command:
    return Restart(request_id=request_id, service_id=_service(payload), grace_secs=_grace(payload))


def _rollback(request_id: RequestId, payload: Fields) -> Command:
    path, _ = payload.raw("target_deployment_id", "deployment_id")
    target = payload.optional_text("target_deployment_id", "deployment_id")
    return Rollback(
        request_id=request_id,
        service_id=_service(payload),
        target=ids.deployment_id(path, target) if target else None,
        image=read_image(payload, payload) if payload.has("image") else None,
    )


def _promote(request_id: RequestId, payload: Fields) -> Command:
    percent = payload.integer("percent", low=1, high=100) if payload.has("percent") else None
    return Promote(request_id=request_id, service_id=_service(payload), percent=percent)


def _abort(request_id: RequestId, payload: Fields) -> Command:
    return Abort(request_id=request_id, service_id=_service(payload))


def _pause(request_id: RequestId, payload: Fields) -> Command:
    reason = payload.text("reason", default="")
    if len(reason) > MAX_REASON_CHARS:
        raise InvalidField(payload.at("reason"), f"is longer than {MAX_REASON_CHARS} characters")
    return PauseService(request_id=request_id, service_id=_service(payload), reason=reason, by=_person(payload))


def _resume(request_id: RequestId, payload: Fields) -> Command:
    return ResumeService(request_id=request_id, service_id=_service(payload), by=_person(payload))


def _person(payload: Fields) -> str:
    return payload.text("requested_by", default="")[:MAX_PERSON_CHARS]


def _restart_container(request_id: RequestId, payload: Fields) -> Command:
    return RestartContainer(request_id=request_id, container_id=_container(payload), grace_secs=_grace(payload))


def _stop_container(request_id: RequestId, payload: Fields) -> Command:
    return StopContainer(
        request_id=request_id,
        container_id=_container(payload),
        deployment_id=_deployment(payload) if payload.has("deployment_id") else None,
        grace_secs=_grace(payload),
        remove=payload.boolean("remove_container", "remove", default=False),
    )


def _stop_deployment(request_id: RequestId, payload: Fields) -> Command:
    return StopDeployment(
        request_id=request_id,
        deployment_id=_deployment(payload),
        grace_secs=_grace(payload),
        remove=payload.boolean("remove_container", "remove", default=False),
    )


def _cancel(request_id: RequestId, payload: Fields) -> Command:
    return Cancel(request_id=request_id, deployment_id=_deployment(payload))


def _switch_traffic(request_id: RequestId, payload: Fields) -> Command:
    return SwitchTraffic(request_id=request_id, service_id=_service(payload), deployment_id=_deployment(payload))


def _split_traffic(request_id: RequestId, payload: Fields) -> Command:
    return SplitTraffic(
        request_id=request_id,
        service_id=_service(payload),
        deployment_id=_deployment(payload) if payload.has("deployment_id") else None,
        percent=payload.integer("percent", low=0, high=100),
    )


def _install_certificate(request_id: RequestId, payload: Fields) -> Command:
    key = payload.secret("private_key")
    if not key:
        raise InvalidField(payload.at("private_key"), "is missing")
    return InstallCertificate(
        request_id=request_id,
        service_id=_service(payload),
        domain=payload.text("domain"),
        certificate=payload.text("certificate"),
        private_key=key,
    )


def _exec(request_id: RequestId, payload: Fields) -> Command:
    if payload.boolean("interactive", default=False):
        raise RequestError("UNSUPPORTED", "cannot exec: interactive sessions are `stream` on the local socket only")
    argv = payload.texts("command")
    if not argv or not argv[0]:
        raise InvalidField(payload.at("command"), "is missing; a list of at least one word")
    working_dir = payload.optional_text("working_dir")
    # A working directory below /proc/self/fd escapes the container on old runc (CVE-2024-21626), however it is spelt.
    if working_dir is not None and absolute_path(working_dir, outside=("proc",)) is None:
        raise InvalidField(payload.at("working_dir"), "is not an absolute path outside /proc, without `..`")
    streams = _streams(payload) if payload.boolean("stream", default=False) else None
    timeout: float | None
    if streams is None:
        timeout = payload.number("timeout_seconds", "timeout", default=30.0, low=0.1, high=MAX_GRACE_SECS)
    else:
        # A backup takes as long as it takes; 0 stands for no timeout.
        timeout = payload.number("timeout_seconds", "timeout", default=0.0, low=0, high=MAX_STREAM_SECS) or None
    return Exec(
        request_id=request_id,
        service_id=_service(payload),
        argv=argv,
        env=parse_env(payload, "env"),
        working_dir=working_dir,
        timeout_secs=timeout,
        replica=payload.integer("replica", low=1, high=MAX_REPLICAS) if payload.has("replica") else None,
        streams=streams,
    )


def _streams(payload: Fields) -> ExecStreams:
    return ExecStreams(
        stdin=payload.boolean("stdin", default=False),
        tty=payload.boolean("tty", default=False),
        rows=payload.integer("rows", default=0, low=0, high=MAX_TERMINAL_SIZE),
        columns=payload.integer("columns", default=0, low=0, high=MAX_TERMINAL_SIZE),
    )


def _logs(request_id: RequestId, payload: Fields) -> Command:
    return LogsSubscribe(
        request_id=request_id,
        service_id=_service(payload),
        follow=payload.boolean("follow", default=False),
        tail=payload.integer("tail", "lines", default=100, low=0, high=MAX_TAIL),
        since=_time(payload, "since"),
        until=_time(payload, "until"),
        deployment_id=_deployment(payload) if payload.has("deployment_id") else None,
    )


def _unsubscribe(request_id: RequestId, payload: Fields) -> Command:
    service = _service(payload) if payload.has("service_id") else None
    return LogsUnsubscribe(request_id=request_id, service_id=service)


def _telemetry_tail(request_id: RequestId, payload: Fields) -> Command:
    signals = {name: name for name in ("", "traces", "metrics", "logs", "profiles", "errors")}
    return TelemetryTail(
        request_id=request_id,
        service=payload.optional_text("service") or "",
        signal=payload.choice("signal", among=signals, default=""),
    )


def _configure(request_id: RequestId, payload: Fields) -> Command:
    return ConfigureHealthCheck(
        request_id=request_id, service_id=_service(payload), change=parse_health_change(payload)
    )


def _query(kind: QueryKind) -> Callable[[RequestId, Fields], Command]:
    def parse(request_id: RequestId, payload: Fields) -> Command:
        return Query(
            request_id=request_id,
            kind=kind,
            service_id=_queried_service(kind, payload),
            deployment=parse_deployment(payload) if kind is QueryKind.PLAN else None,
            is_forced=kind is QueryKind.PLAN and payload.boolean("force", default=False),
            with_manifests=kind is QueryKind.PLAN and payload.boolean("manifests", default=False),
        )

    return parse


def _events(request_id: RequestId, payload: Fields) -> Command:
    since = _time(payload, "since")
    return Query(
        request_id=request_id,
        kind=QueryKind.LIST_EVENTS,
        service_id=_queried_service(QueryKind.LIST_EVENTS, payload),
        after=payload.integer("after", default=0, low=0, high=2**62),
        since=(parse_ns(since) or 0) / 1e9 if since else 0.0,
        limit=payload.integer("limit", default=100, low=1, high=MAX_EVENTS),
    )


def _queried_service(kind: QueryKind, payload: Fields) -> ServiceId | None:
    if kind in (QueryKind.LIST_DEPLOYMENTS, QueryKind.DESCRIBE):
        return _service(payload)
    is_taken = kind in (QueryKind.METRICS, QueryKind.LIST_EVENTS)
    return _service(payload) if is_taken and payload.has("service_id") else None


def _proxy(action: ProxyAction) -> Callable[[RequestId, Fields], Command]:
    def parse(request_id: RequestId, payload: Fields) -> Command:
        return ProxyControl(request_id=request_id, action=action)

    return parse


def _set_secret(request_id: RequestId, payload: Fields) -> Command:
    value = payload.secret("value")
    path = payload.at("value")
    if not value:
        raise InvalidField(path, "is missing")
    if "\0" in value:
        raise InvalidField(path, "contains a NUL character")
    if len(value.encode(errors="surrogatepass")) > MAX_SECRET_BYTES:
        raise InvalidField(path, "is longer than 64 KiB")
    return SetSecret(request_id=request_id, name=_secret_name(payload), value=value)


def _remove_secret(request_id: RequestId, payload: Fields) -> Command:
    return RemoveSecret(request_id=request_id, name=_secret_name(payload))


def _secret_name(payload: Fields) -> str:
    return secret_name(payload.at("name"), payload.text("name"))


def _update_agent(request_id: RequestId, payload: Fields) -> Command:
    version = payload.optional_text("version") or ""
    # Some control planes write the newest as a word, and versions as tags of a repository.
    version = "" if version == "latest" else version.removeprefix("v")
    return UpdateAgent(
        request_id=request_id,
        version=version,
        channel=payload.choice("channel", among={name: name for name in ("", "stable", "beta")}, default=""),
        check_only=payload.boolean("check", default=False),
    )


def _service(payload: Fields) -> ServiceId:
    return ids.service_id(payload.at("service_id"), payload.text("service_id"))


def _grace(payload: Fields) -> float | None:
    if not payload.has("timeout_seconds", "timeout"):
        return None
    return payload.number("timeout_seconds", "timeout", low=0, high=MAX_GRACE_SECS)


def _deployment(payload: Fields) -> DeploymentId:
    return ids.deployment_id(payload.at("deployment_id"), payload.text("deployment_id"))


def _container(payload: Fields) -> ContainerId:
    text = payload.text("container_id")
    if _CONTAINER_ID.fullmatch(text) is None:
        raise InvalidField(payload.at("container_id"), f"{text[:40]!r} is not a container's id (12 to 64 hex digits)")
    return ContainerId(text)


def _time(payload: Fields, key: str) -> str | None:
    # Accepts epoch seconds and any RFC 3339; runtimes get one form.
    text = payload.quantity(key)
    if not text:
        return None
    try:
        when = int(Decimal(text) * 1_000_000_000) if _EPOCH_SECS.fullmatch(text) else parse_ns(text)
        return format_ns(when) if when is not None else None
    except AgentError:
        raise InvalidField(payload.at(key), f"{text[:40]!r} is not a time (RFC 3339 or epoch seconds)") from None


_PARSERS: Mapping[str, Callable[[RequestId, Fields], Command]] = {
    **{kind.value: _query(kind) for kind in QueryKind},
    QueryKind.LIST_EVENTS.value: _events,
    **{action.value: _proxy(action) for action in ProxyAction},
    "deploy": _deploy,
    "stop": _stop,
    "scale": _scale,
    "restart": _restart,
    "rollback": _rollback,
    "promote": _promote,
    "abort": _abort,
    "pause": _pause,
    "resume": _resume,
    "restart_container": _restart_container,
    "stop_container": _stop_container,
    "stop_deployment": _stop_deployment,
    "cancel": _cancel,
    "switch_traffic": _switch_traffic,
    "split_traffic": _split_traffic,
    "install_certificate": _install_certificate,
    "exec": _exec,
    "logs_subscribe": _logs,
    "logs": _logs,
    "logs_unsubscribe": _unsubscribe,
    "telemetry_tail": _telemetry_tail,
    "configure_health_check": _configure,
    "set_secret": _set_secret,
    "remove_secret": _remove_secret,
    "update_agent": _update_agent,
}
