"""Queries for items of telemetry: their parameters, and the items of a block that match. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from syntra.controlplane.telemetry import lines, otlp_index
from syntra.controlplane.telemetry.blocks import LATEST_NS, LONGEST_SERVICE, Form, Kind
from syntra.controlplane.telemetry.compression import decompressed
from syntra.controlplane.telemetry.otlp_parts import groups, parts
from syntra.controlplane.telemetry.store import StoredBlock, Wanted
from syntra.model.errors import InvalidField
from syntra.telemetry.shipping import contract
from syntra.telemetry.signals import Signal
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen
from syntra.utils.timestamps import parse_ns

_SIGNALS = {Kind.TRACES: Signal.TRACES, Kind.LOGS: Signal.LOGS, Kind.METRICS: Signal.METRICS}

_POSITION_BITS = 20
"""A cursor is a block's number and, in this many bits, the number of its matches that were answered."""

_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_EPOCH_SECS = re.compile(r"[0-9]{1,10}(\.[0-9]{1,9})?")
_CURSOR = re.compile(r"[0-9]{1,18}")
_NUMBER = re.compile(r"[0-9]{1,9}")


@frozen
class Query:
    """What a client asks for. `after` is the cursor of the last answer, or 0."""

    wanted: Wanted
    trace_id: str | None
    limit: int
    after: int

    @property
    def first_block(self) -> int:
        """The number of the first block that may have items beyond the cursor."""
        return self.after >> _POSITION_BITS


def parse(kind: Kind, fields: Mapping[str, str], most: int) -> Query:
    """Parse the fields of a request. Raises InvalidField."""
    trace_id = fields.get("trace_id")
    if trace_id is not None and _TRACE_ID.fullmatch(trace_id.lower()) is None:
        raise InvalidField("trace_id", f"{trace_id[:40]!r} is not 32 hexadecimal digits")
    limit = fields.get("limit", str(most))
    if _NUMBER.fullmatch(limit) is None or not 1 <= int(limit) <= most:
        raise InvalidField("limit", f"{limit[:40]!r} is not a number from 1 to {most}")
    after = fields.get("after", "0")
    if _CURSOR.fullmatch(after) is None:
        raise InvalidField("after", f"{after[:40]!r} is not the `next` of an answer")
    service = fields.get("service")
    if service is not None and len(service) > LONGEST_SERVICE:
        raise InvalidField("service", f"is longer than {LONGEST_SERVICE} characters")
    wanted = Wanted(
        kind=kind,
        server_id=fields.get("server"),
        service=service,
        after_ns=_time("from", fields.get("from"), 0),
        before_ns=_time("to", fields.get("to"), LATEST_NS),
    )
    return Query(wanted=wanted, trace_id=trace_id and trace_id.lower(), limit=int(limit), after=int(after))


def beyond(block: StoredBlock) -> int:
    """The cursor behind the last item of a block."""
    return (block.seq + 1) << _POSITION_BITS


def matches(block: StoredBlock, query: Query) -> Iterator[tuple[int, Mapping[str, object]]]:
    """The items of a block that match and lie beyond the query's cursor, each with its cursor and its server."""
    first = block.seq << _POSITION_BITS
    for position, item in enumerate(_found(block, query), 1):
        if first | position > query.after:
            yield first | position, {**item, "server_id": block.server_id}


def _found(block: StoredBlock, query: Query) -> Iterator[lines.Item]:
    wanted = query.wanted
    received_ns = parse_ns(block.received_at) or 0
    for item in _of_service(block, query):
        time_ns = lines.item_time_ns(wanted.kind, item) or received_ns
        if wanted.after_ns <= time_ns < wanted.before_ns and query.trace_id in (None, item.get("trace_id")):
            yield item


def _of_service(block: StoredBlock, query: Query) -> Iterator[lines.Item]:
    raw = decompressed(block.data, block.raw_bytes)
    service = query.wanted.service
    if block.form is Form.LINES:
        yield from (item for item in lines.items(raw) if service is None or service in lines.services(item))
        return
    # The id is there as bytes; decoding what does not have it would cost a thousand times as much.
    needle = bytes.fromhex(query.trace_id or "")
    if needle not in raw:
        return
    for part in parts(raw):
        if service is None or service in otlp_index.services(part.resource):
            for request in groups(part):
                if needle in request:
                    yield from contract.items(_SIGNALS[query.wanted.kind], request)


def _time(name: str, text: str | None, default: int) -> int:
    if text is None:
        return default
    if _EPOCH_SECS.fullmatch(text):
        whole, _, fraction = text.partition(".")
        return int(whole) * 10**9 + int(fraction.ljust(9, "0"))
    try:
        return min(max(parse_ns(text) or 0, 0), LATEST_NS)
    except AgentError as exc:
        raise InvalidField(name, f"{text[:40]!r} is neither RFC 3339 nor seconds since 1970") from exc
