"""The containers whose logs are read, as the agent tells them in `log_targets`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from syntra.telemetry.collect.logs.line_parser import PARSERS
from syntra.telemetry.collect.logs.line_reader import LineReader
from syntra.telemetry.collect.logs.multiline import Auto, Joiner, Off, Pattern
from syntra.telemetry.collect.logs.rate_limit import Rate
from syntra.utils.frozen import frozen


@frozen
class Target:
    """One container."""

    container_id: str
    path: str
    """The log file of the driver `json-file`; empty for other drivers, whose log the agent streams."""
    created_ns: int
    is_running: bool
    resource: Mapping[str, str]
    """Attributes that say whose log it is."""
    service: str
    """What the rate limit is shared by."""
    multiline: str
    parse: str
    rate: Rate

    def reader(self) -> LineReader:
        """A reader for its lines."""
        return LineReader(PARSERS[self.parse], [self._joiner(), self._joiner()])

    def _joiner(self) -> Joiner:
        if self.multiline == "auto":
            return Auto()
        return Off() if self.multiline == "off" else Pattern(re.compile(self.multiline))


def parse_targets(given: Mapping[str, Any]) -> dict[str, Target]:
    """The targets by container id, from the field `targets` of the message."""
    return {name: _target(name, fields) for name, fields in given.items()}


def _target(container_id: str, fields: Mapping[str, Any]) -> Target:
    lines, size, burst = fields["rate"]
    return Target(
        container_id=container_id,
        path=fields["path"],
        created_ns=fields["created_ns"],
        is_running=fields["is_running"],
        resource=fields["resource"],
        service=fields["service"],
        multiline=fields["multiline"],
        parse=fields["parse"],
        rate=Rate(lines_per_sec=lines, bytes_per_sec=size, burst_secs=burst),
    )
