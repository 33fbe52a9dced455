from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Signal(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SIGNAL_UNSPECIFIED: _ClassVar[Signal]
    SIGNAL_TRACES: _ClassVar[Signal]
    SIGNAL_METRICS: _ClassVar[Signal]
    SIGNAL_LOGS: _ClassVar[Signal]
    SIGNAL_PROFILES: _ClassVar[Signal]
    SIGNAL_ERRORS: _ClassVar[Signal]
    SIGNAL_HEALTH_CHECKS: _ClassVar[Signal]

class Compression(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMPRESSION_UNSPECIFIED: _ClassVar[Compression]
    COMPRESSION_NONE: _ClassVar[Compression]
    COMPRESSION_ZSTD: _ClassVar[Compression]
SIGNAL_UNSPECIFIED: Signal
SIGNAL_TRACES: Signal
SIGNAL_METRICS: Signal
SIGNAL_LOGS: Signal
SIGNAL_PROFILES: Signal
SIGNAL_ERRORS: Signal
SIGNAL_HEALTH_CHECKS: Signal
COMPRESSION_UNSPECIFIED: Compression
COMPRESSION_NONE: Compression
COMPRESSION_ZSTD: Compression

class TelemetryFrame(_message.Message):
    __slots__ = ("batch_id", "agent_id", "signal", "items", "oldest_unix_nano", "newest_unix_nano", "compression", "data")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    OLDEST_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    NEWEST_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    batch_id: str
    agent_id: str
    signal: Signal
    items: int
    oldest_unix_nano: int
    newest_unix_nano: int
    compression: Compression
    data: bytes
    def __init__(self, batch_id: _Optional[str] = ..., agent_id: _Optional[str] = ..., signal: _Optional[_Union[Signal, str]] = ..., items: _Optional[int] = ..., oldest_unix_nano: _Optional[int] = ..., newest_unix_nano: _Optional[int] = ..., compression: _Optional[_Union[Compression, str]] = ..., data: _Optional[bytes] = ...) -> None: ...
