"""Commands from the payloads of the wire contract, older field names included."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from syntra.model import ids
from syntra.model.command import (
    Abort,
    Cancel,
    Command,
    ConfigureHealthCheck,
    Deploy,
    InstallCertificate,
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
    UpdateAgent,
)
from syntra.model.command_fields import container_of, deployment_of, grace_of, service_of, time_of
from syntra.model.env_payload import MAX_SECRET_BYTES, secret_name
from syntra.model.errors import InvalidField, RequestError
from syntra.model.fields import Fields, Json
from syntra.model.health_change import parse_health_change
from syntra.model.ids import RequestId, ServiceId
from syntra.model.image_payload import read_image
from syntra.model.spec_payload import (
    MAX_REPLICAS,
    parse_deployment,
    parse_registry_auth,
)
from syntra.model.stream_payload import parse_copy, parse_exec, parse_logs, parse_telemetry_tail, parse_unsubscribe
from syntra.utils.timestamps import parse_ns

MAX_EVENTS = 1000
MAX_REASON_CHARS = 200
MAX_PERSON_CHARS = 100


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
        service_id=service_of(payload),
        grace_secs=grace_of(payload),
        remove=payload.boolean("remove_container", "remove", default=False),
    )


def _scale(request_id: RequestId, payload: Fields) -> Command:
    return Scale(
        request_id=request_id,
        service_id=service_of(payload),
        replicas=payload.integer("replicas", low=0, high=MAX_REPLICAS),
        pace=payload.choice("strategy", among={p.value: p for p in Pace}, default=Pace.IMMEDIATE),
    )


def _restart(request_id: RequestId, payload: Fields) -> Command:
    return Restart(request_id=request_id, service_id=service_of(payload), grace_secs=grace_of(payload))


def _rollback(request_id: RequestId, payload: Fields) -> Command:
    path, _ = payload.raw("target_deployment_id", "deployment_id")
    target = payload.optional_text("target_deployment_id", "deployment_id")
    return Rollback(
        request_id=request_id,
        service_id=service_of(payload),
        target=ids.deployment_id(path, target) if target else None,
        image=read_image(payload, payload) if payload.has("image") else None,
    )


def _promote(request_id: RequestId, payload: Fields) -> Command:
    percent = payload.integer("percent", low=1, high=100) if payload.has("percent") else None
    return Promote(request_id=request_id, service_id=service_of(payload), percent=percent)


def _abort(request_id: RequestId, payload: Fields) -> Command:
    return Abort(request_id=request_id, service_id=service_of(payload))


def _pause(request_id: RequestId, payload: Fields) -> Command:
    reason = payload.text("reason", default="")
    if len(reason) > MAX_REASON_CHARS:
        raise InvalidField(payload.at("reason"), f"is longer than {MAX_REASON_CHARS} characters")
    return PauseService(request_id=request_id, service_id=service_of(payload), reason=reason, by=_person(payload))


def _resume(request_id: RequestId, payload: Fields) -> Command:
    return ResumeService(request_id=request_id, service_id=service_of(payload), by=_person(payload))


def _person(payload: Fields) -> str:
    return payload.text("requested_by", default="")[:MAX_PERSON_CHARS]


def _restart_container(request_id: RequestId, payload: Fields) -> Command:
    return RestartContainer(request_id=request_id, container_id=container_of(payload), grace_secs=grace_of(payload))


def _stop_container(request_id: RequestId, payload: Fields) -> Command:
    return StopContainer(
        request_id=request_id,
        container_id=container_of(payload),
        deployment_id=deployment_of(payload) if payload.has("deployment_id") else None,
        grace_secs=grace_of(payload),
        remove=payload.boolean("remove_container", "remove", default=False),
    )


def _stop_deployment(request_id: RequestId, payload: Fields) -> Command:
    return StopDeployment(
        request_id=request_id,
        deployment_id=deployment_of(payload),
        grace_secs=grace_of(payload),
        remove=payload.boolean("remove_container", "remove", default=False),
    )


def _cancel(request_id: RequestId, payload: Fields) -> Command:
    return Cancel(request_id=request_id, deployment_id=deployment_of(payload))


def _switch_traffic(request_id: RequestId, payload: Fields) -> Command:
    return SwitchTraffic(request_id=request_id, service_id=service_of(payload), deployment_id=deployment_of(payload))


def _split_traffic(request_id: RequestId, payload: Fields) -> Command:
    return SplitTraffic(
        request_id=request_id,
        service_id=service_of(payload),
        deployment_id=deployment_of(payload) if payload.has("deployment_id") else None,
        percent=payload.integer("percent", low=0, high=100),
    )


def _install_certificate(request_id: RequestId, payload: Fields) -> Command:
    key = payload.secret("private_key")
    if not key:
        raise InvalidField(payload.at("private_key"), "is missing")
    return InstallCertificate(
        request_id=request_id,
        service_id=service_of(payload),
        domain=payload.text("domain"),
        certificate=payload.text("certificate"),
        private_key=key,
    )


def _configure(request_id: RequestId, payload: Fields) -> Command:
    return ConfigureHealthCheck(
        request_id=request_id, service_id=service_of(payload), change=parse_health_change(payload)
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
    since = time_of(payload, "since")
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
        return service_of(payload)
    is_taken = kind in (QueryKind.METRICS, QueryKind.LIST_EVENTS)
    return service_of(payload) if is_taken and payload.has("service_id") else None


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
    "exec": parse_exec,
    "copy": parse_copy,
    "logs_subscribe": parse_logs,
    "logs": parse_logs,
    "logs_unsubscribe": parse_unsubscribe,
    "telemetry_tail": parse_telemetry_tail,
    "configure_health_check": _configure,
    "set_secret": _set_secret,
    "remove_secret": _remove_secret,
    "update_agent": _update_agent,
}
