"""What a canary answered, by the count of a real Traefik, and answers that are no count."""

from __future__ import annotations

from pathlib import Path

import pytest

from syntra.model.ids import ContainerId, ServiceId
from syntra.model.spec import Routing
from syntra.networking import traefik
from syntra.networking.canary_requests import Answers, CanaryRequests, answers
from syntra.networking.errors import ProxyUnreachable, UnreadableMetrics
from syntra.networking.file_writer import FileWriter
from syntra.networking.proxy import ProxyObserver
from syntra.networking.routes import Endpoint, Group, RouteTable, ServiceRoute
from tests.networking.real_traefik import PLAIN, RealTraefik, backend, free_ports

WEB = ServiceId("svc_1.a-b")
TYPE = "# TYPE traefik_service_requests_total counter\n"


def line(value: str, *, code: str = "200", service: str = "syn-svc_1.a-b~canary@file") -> str:
    labels = f'code="{code}",method="GET",protocol="http",service="{service}"'
    return f"traefik_service_requests_total{{{labels}}} {value}\n"


def test_only_the_canary_of_the_service_counts_and_5xx_of_it_as_failed() -> None:
    text = TYPE + line("10") + line("3", code="404") + line("2", code="500") + line("1", code="503")
    text += line("99", service="syn-svc_1.a-b~stable@file") + line("99", service="syn-svc_1~canary@file")
    assert answers(text, WEB) == Answers(total=16, failed=3)
    assert answers(TYPE, WEB) == Answers(), "before the first request there is no line"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "404 page not found\n",
        "<html></html>\n",
        TYPE + line("1", code="oops"),
        TYPE + line("1", code=""),
        TYPE + line("NaN"),
        TYPE + line("+Inf"),
        TYPE + line("-1"),
        TYPE + line("many"),
        TYPE + line("1").rstrip("\n"),
    ],
)
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(UnreadableMetrics, match=r"cannot read the metrics"):
        answers(text, WEB)


async def test_a_real_proxy_counts_what_its_canary_answers(tmp_path: Path) -> None:
    with RealTraefik(tmp_path) as proxy, backend("old") as old, backend("new") as new:
        count = CanaryRequests(f"{proxy.api_url}/metrics")
        assert await count.answers(WEB) == Answers()
        [closed] = free_ports(1)
        for port, share in ((new.port, 25), (closed, 50)):
            table = RouteTable((route(("stable", 100 - share, old.port), ("canary", share, port)),))
            FileWriter(proxy.directory).write(traefik.render(table, PLAIN))
            assert await ProxyObserver(proxy.api_url, PLAIN).wait_applied(table, 10)
            for _ in range(40):
                proxy.get("web.example")
        # 10 that were answered, and 20 that nobody listened to.
        assert await count.answers(WEB) == Answers(total=30, failed=20)


async def test_a_proxy_that_is_away_or_has_no_metrics_is_named_with_the_key_to_set(tmp_path: Path) -> None:
    [closed] = free_ports(1)
    with pytest.raises(ProxyUnreachable, match=r"check networking\.traefik_metrics and that the proxy runs"):
        await CanaryRequests(f"http://127.0.0.1:{closed}/metrics").answers(WEB)
    with RealTraefik(tmp_path) as proxy:
        with pytest.raises(ProxyUnreachable, match=r"there are none at networking\.traefik_metrics"):
            await CanaryRequests(f"{proxy.api_url}/metric").answers(WEB)
        with pytest.raises(UnreadableMetrics, match=r"check networking\.traefik_metrics"):
            await CanaryRequests(f"{proxy.api_url}/api/version").answers(WEB)


def route(*groups: tuple[str, int, int]) -> ServiceRoute:
    return ServiceRoute(
        service_id=WEB,
        domains=("web.example",),
        routing=Routing(),
        groups=tuple(
            Group(
                name=name,
                weight=weight,
                endpoints=(Endpoint(container_id=ContainerId(name), address="127.0.0.1", port=port),),
            )
            for name, weight, port in groups
        ),
    )
