"""Commands whose answer is a stream: a command in a container, log lines, telemetry. All raise InvalidField."""

from __future__ import annotations

from syntra.model.command import (
    Command,
    Copy,
    CopyWay,
    Exec,
    ExecStreams,
    LogsSubscribe,
    LogsUnsubscribe,
    TelemetryTail,
)
from syntra.model.command_fields import MAX_GRACE_SECS, deployment_of, service_of, time_of
from syntra.model.env_payload import parse_env
from syntra.model.errors import InvalidField, RequestError
from syntra.model.fields import Fields
from syntra.model.ids import RequestId
from syntra.model.paths import absolute_path
from syntra.model.spec_payload import MAX_REPLICAS

MAX_STREAM_SECS = 7 * 24 * 3600.0
MAX_TERMINAL_SIZE = 65535
MAX_TAIL = 100_000


def parse_exec(request_id: RequestId, payload: Fields) -> Command:
    """A command in a container."""
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
        service_id=service_of(payload),
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


def parse_copy(request_id: RequestId, payload: Fields) -> Command:
    """A copy from or to a container."""
    path = payload.text("path")
    if not path.startswith("/") or "\0" in path:
        raise InvalidField(payload.at("path"), "is not an absolute path")
    return Copy(
        request_id=request_id,
        service_id=service_of(payload),
        path=path,
        way=payload.choice("direction", among={way.value: way for way in CopyWay}),
        replica=payload.integer("replica", low=1, high=MAX_REPLICAS) if payload.has("replica") else None,
    )


def parse_logs(request_id: RequestId, payload: Fields) -> Command:
    """Lines of a service's log."""
    return LogsSubscribe(
        request_id=request_id,
        service_id=service_of(payload),
        follow=payload.boolean("follow", default=False),
        tail=payload.integer("tail", "lines", default=100, low=0, high=MAX_TAIL),
        since=time_of(payload, "since"),
        until=time_of(payload, "until"),
        deployment_id=deployment_of(payload) if payload.has("deployment_id") else None,
    )


def parse_unsubscribe(request_id: RequestId, payload: Fields) -> Command:
    """The end of a followed log."""
    service = service_of(payload) if payload.has("service_id") else None
    return LogsUnsubscribe(request_id=request_id, service_id=service)


def parse_telemetry_tail(request_id: RequestId, payload: Fields) -> Command:
    """A live view of telemetry."""
    signals = {name: name for name in ("", "traces", "metrics", "logs", "profiles", "errors")}
    return TelemetryTail(
        request_id=request_id,
        service=payload.optional_text("service") or "",
        signal=payload.choice("signal", among=signals, default=""),
    )
