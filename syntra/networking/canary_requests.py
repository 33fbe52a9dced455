"""How the requests that a canary got were answered, by Traefik's own count."""

from __future__ import annotations

import asyncio
import math

from syntra.model.ids import ServiceId
from syntra.networking.api_client import ApiClient
from syntra.networking.errors import ProxyUnreachable, UnreadableMetrics
from syntra.networking.prometheus_text import samples
from syntra.utils.frozen import frozen

METRIC = "traefik_service_requests_total"
KEY = "networking.traefik_metrics"


@frozen
class Answers:
    """Answers since the proxy began to count: all of them, and those with a status of 500 and above."""

    total: float = 0.0
    failed: float = 0.0


class CanaryRequests:
    """Reads the metrics at `url`, the whole address. Needs `addServicesLabels` in Traefik's configuration."""

    def __init__(self, url: str) -> None:
        self._client = ApiClient(url, key=KEY)

    async def answers(self, service_id: ServiceId) -> Answers:
        """Those of the service's canary; none before its first request. Safe to cancel.

        Raises ProxyUnreachable without an answer, UnreadableMetrics for one that is no metrics.
        """
        body = await self._client.read("")
        if body is None:
            raise ProxyUnreachable(f"cannot read the proxy's metrics: there are none at {KEY}; check its path")
        try:
            text = body.decode()
        except UnicodeDecodeError as broken:
            raise UnreadableMetrics("cannot read the metrics: they are not UTF-8 text") from broken
        # A proxy with many routes has a hundred thousand lines of them.
        return await asyncio.to_thread(answers, text, service_id)


def answers(text: str, service_id: ServiceId) -> Answers:
    """What metrics in Prometheus' text format tell of a service's canary; raises UnreadableMetrics."""
    if "# TYPE " not in text:
        raise UnreadableMetrics(f"cannot read the metrics: there are none in the answer; check {KEY}")
    total = failed = 0.0
    for sample in samples(text, METRIC):
        if sample.labels.get("service") != f"syn-{service_id}~canary@file":
            continue
        code = sample.labels.get("code", "")
        if not math.isfinite(sample.value) or sample.value < 0 or not code.isdigit():
            raise UnreadableMetrics(f"cannot read the metrics: a sample of {METRIC} is not a count of answers")
        total += sample.value
        failed += sample.value if int(code) >= 500 else 0.0
    return Answers(total=total, failed=failed)
