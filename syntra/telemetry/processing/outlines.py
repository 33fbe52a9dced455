"""OTLP requests with only the fields that the pipeline reads; the rest stays encoded inside the messages. Pure.

A message of this schema parses many times as fast as the full one. Spans are bytes, scopes and attributes are unknown
fields: protobuf keeps their bytes and writes them out again unchanged. The price is that they are not checked.
`resource` is repeated, so that a resource in several parts, which decoders merge, is seen whole.
Field numbers are those of opentelemetry-proto's trace.proto and logs.proto.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_PACKAGE = "syntra.outline"
_BYTES = FieldDescriptorProto.TYPE_BYTES
_FIXED64 = FieldDescriptorProto.TYPE_FIXED64
_INT32 = FieldDescriptorProto.TYPE_INT32

_SCALARS: dict[str, dict[str, tuple[int, FieldDescriptorProto.Type.ValueType]]] = {
    "Span": {
        "trace_id": (1, _BYTES),
        "span_id": (2, _BYTES),
        "trace_state": (3, _BYTES),
        "name": (5, _BYTES),
        "kind": (6, _INT32),
        "start": (7, _FIXED64),
        "end": (8, _FIXED64),
        "status": (15, _BYTES),
    },
    "LogRecord": {"severity": (2, _INT32), "severity_text": (3, _BYTES), "trace_id": (9, _BYTES)},
}
_REPEATED: dict[str, dict[str, tuple[int, str]]] = {
    "Span": {},
    "LogRecord": {"attributes": (6, "")},
    "ScopeSpans": {"items": (2, "")},
    "ScopeLogs": {"items": (2, "LogRecord")},
    "ResourceSpans": {"resource": (1, ""), "scopes": (2, "ScopeSpans")},
    "ResourceLogs": {"resource": (1, ""), "scopes": (2, "ScopeLogs")},
    "TracesRequest": {"resources": (1, "ResourceSpans")},
    "LogsRequest": {"resources": (1, "ResourceLogs")},
}


def _schema() -> DescriptorPool:
    """The schema. Repeated fields without a type are bytes."""
    file = FileDescriptorProto(name="syntra/outline.proto", package=_PACKAGE, syntax="proto3")
    for name, repeated in _REPEATED.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in _SCALARS.get(name, {}).items():
            message.field.add(name=field, number=number, type=kind, label=FieldDescriptorProto.LABEL_OPTIONAL)
        for field, (number, of) in repeated.items():
            added = message.field.add(name=field, number=number, label=FieldDescriptorProto.LABEL_REPEATED)
            added.type = FieldDescriptorProto.TYPE_MESSAGE if of else _BYTES
            if of:
                added.type_name = f".{_PACKAGE}.{of}"
    pool = DescriptorPool()
    pool.Add(file)
    return pool


_POOL = _schema()

# The classes exist at run time only, so their attributes have no static types.
SpanOutline: Any = GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.Span"))
TracesOutline: Any = GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.TracesRequest"))
LogsOutline: Any = GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.LogsRequest"))


def remove_empty(message: Any) -> bool:
    """Remove scopes without items, and resources without scopes; return whether anything is left."""
    resources = message.resources
    for index in range(len(resources) - 1, -1, -1):
        scopes = resources[index].scopes
        for at in range(len(scopes) - 1, -1, -1):
            if not scopes[at].items:
                del scopes[at]
        if not scopes:
            del resources[index]
    return bool(resources)


def keep(items: Any, chosen: list[Any]) -> None:
    """Keep only these of a repeated field's messages."""
    del items[:]
    items.extend(chosen)
