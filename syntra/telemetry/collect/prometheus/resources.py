"""The resource of a target as OTLP. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from syntra.telemetry.collect.prometheus.pieces import attributes

_OF_THE_SCRAPE = frozenset({"job", "instance"})


def with_target_info(own: Sequence[tuple[str, str]], target: Iterable[tuple[str, str]]) -> bytes:
    """The encoded Resource: the target's own attributes, then those of `target_info`.

    What the page says about itself replaces nothing that the agent knows. An empty value of the agent's removes a claim
    and sets nothing.
    """
    taken = {key for key, _ in own} | _OF_THE_SCRAPE
    more = [(key, value) for key, value in target if key not in taken]
    return attributes(0x0A, [*((key, value) for key, value in own if value), *more])
