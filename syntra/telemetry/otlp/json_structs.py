"""Usual requests of OTLP/JSON as typed structs, which msgspec fills without a dictionary for each object. Pure.

The structs refuse what an SDK does not usually send: unknown keys, snake_case, null, names of enum values, ids of a
wrong length. What they accept means the same as in the JSON mapping of proto3. `Raw` values are valid JSON but not
valid UTF-8 for certain. Counts and times may be text (`strict=False`); that concerns integers only.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Raw, Struct, field
from msgspec.json import Decoder

_Short = Annotated[int, Meta(ge=0, le=127)]
_UInt32 = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
_TraceId = Annotated[str, Meta(min_length=32, max_length=32)]
_SpanId = Annotated[str, Meta(min_length=16, max_length=16)]

NOTHING = Raw(b"")


class Status(Struct, gc=False, rename="camel", forbid_unknown_fields=True):
    """A Status."""

    message: str = ""
    code: _Short = 0


class Span(Struct, gc=False, rename="camel", forbid_unknown_fields=True):
    """A Span; its lists stay text."""

    trace_id: _TraceId
    span_id: _SpanId
    start_time_unix_nano: int
    end_time_unix_nano: int
    trace_state: str = ""
    parent_span_id: str = ""
    name: str = ""
    kind: _Short = 0
    attributes: Raw = NOTHING
    dropped_attributes_count: _UInt32 = 0
    events: Raw = NOTHING
    dropped_events_count: _UInt32 = 0
    links: Raw = NOTHING
    dropped_links_count: _UInt32 = 0
    status: Status | None = None
    flags: _UInt32 = 0


class LogRecord(Struct, gc=False, rename="camel", forbid_unknown_fields=True):
    """A LogRecord; its body and its attributes stay text."""

    time_unix_nano: int = 0
    observed_time_unix_nano: int = 0
    severity_number: _Short = 0
    severity_text: str = ""
    body: Raw = NOTHING
    attributes: Raw = NOTHING
    dropped_attributes_count: _UInt32 = 0
    flags: _UInt32 = 0
    trace_id: str = ""
    span_id: str = ""
    event_name: str = ""


class ScopeSpans(Struct, rename="camel", forbid_unknown_fields=True):
    """A ScopeSpans; `records` are its spans."""

    scope: Raw = NOTHING
    records: list[Span] = field(name="spans", default_factory=list)
    schema_url: str = ""


class ResourceSpans(Struct, rename="camel", forbid_unknown_fields=True):
    """A ResourceSpans."""

    resource: Raw = NOTHING
    scopes: list[ScopeSpans] = field(name="scopeSpans", default_factory=list)
    schema_url: str = ""


class TracesRequest(Struct, rename="camel", forbid_unknown_fields=True):
    """An ExportTraceServiceRequest."""

    resources: list[ResourceSpans] = field(name="resourceSpans", default_factory=list)


class FullScope(ScopeSpans, kw_only=True):
    """A ScopeSpans that has spans, or at least a list of them."""

    records: list[Span] = field(name="spans")


class FullResource(ResourceSpans, kw_only=True):
    """A ResourceSpans that has scopes, or at least a list of them."""

    scopes: list[FullScope] = field(name="scopeSpans")  # type: ignore[assignment]  # never written


class FullTraces(Struct, rename="camel", forbid_unknown_fields=True):
    """An ExportTraceServiceRequest without a tiny object in it, so that its memory follows from its keys."""

    resources: list[FullResource] = field(name="resourceSpans", default_factory=list)


class ScopeLogs(Struct, rename="camel", forbid_unknown_fields=True):
    """A ScopeLogs; `records` are its log records."""

    scope: Raw = NOTHING
    records: list[LogRecord] = field(name="logRecords", default_factory=list)
    schema_url: str = ""


class ResourceLogs(Struct, rename="camel", forbid_unknown_fields=True):
    """A ResourceLogs."""

    resource: Raw = NOTHING
    scopes: list[ScopeLogs] = field(name="scopeLogs", default_factory=list)
    schema_url: str = ""


class LogsRequest(Struct, rename="camel", forbid_unknown_fields=True):
    """An ExportLogsServiceRequest."""

    resources: list[ResourceLogs] = field(name="resourceLogs", default_factory=list)


read_spans = Decoder(list[Span], strict=False).decode
read_log_records = Decoder(list[LogRecord], strict=False).decode
read_traces = Decoder(TracesRequest, strict=False).decode
read_full_traces = Decoder(FullTraces, strict=False).decode
read_logs = Decoder(LogsRequest, strict=False).decode
