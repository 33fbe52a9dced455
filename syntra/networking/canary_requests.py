"""Counts how the requests to a canary were answered, from Traefik's metrics."""

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
    """Answers since the proxy started counting: all, and those with a status of 500 or above."""

    total: float = 0.0
    failed: float = 0.0


class CanaryRequests:
    """Reads the metrics at `url`, a complete address. Needs `addServicesLabels` in Traefik's configuration."""

    def __init__(self, url: str) -> None:
        self._client = ApiClient(url, key=KEY)

    async def answers(self, service_id: ServiceId) -> Answers:
        """The answers of the service's canary; zero before its first request. Safe to cancel.

        Raises ProxyUnreachable when there is no answer, UnreadableMetrics when the answer is not metrics.
        """
        body = await self._client.read("")
        if body is None:
            raise ProxyUnreachable(f"cannot read the proxy's metrics: there are none at {KEY}; check its path")
        try:
            text = body.decode()
        except UnicodeDecodeError as broken:
            raise UnreadableMetrics("cannot read the metrics: they are not UTF-8 text") from broken
        # A proxy with many routes returns a hundred thousand lines.
        return await asyncio.to_thread(answers, text, service_id)


def answers(text: str, service_id: ServiceId) -> Answers:
    """Count a service's canary in metrics of Prometheus' text format. Raises UnreadableMetrics."""
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
