"""Prometheus endpoints of services: a key or labels of the service, and metrics at the control plane."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.fleet import Fleet, fleet
from tests.e2e.telemetry_stage import answers, free_ports, stored
from tests.engine import wait_until

pytestmark = pytest.mark.engine

SCRAPED_SECS = 30.0

PAGE = (
    '# TYPE hits_total counter\nhits_total{path="/"} 5\n'
    '# TYPE wait_seconds histogram\nwait_seconds_bucket{le="0.5"} 2\nwait_seconds_bucket{le="+Inf"} 3\n'
    "wait_seconds_sum 4.5\nwait_seconds_count 3\n"
    "go_goroutines 8\n"
)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    grpc, http = free_ports(2)
    config = f"[telemetry]\notlp_grpc_port = {grpc}\notlp_http_port = {http}\nbatch_interval_secs = 1\n"
    with fleet(tmp_path_factory.mktemp("scrape"), config=config) as whole:
        wait_until(lambda: answers(http), "the receivers")
        yield whole


def targets(product: Fleet) -> dict[str, dict[str, Any]]:
    """What `telemetry status` says of each service that is scraped."""
    command = [sys.executable, "-m", "syntra", "--socket", str(product.agent.socket), "telemetry", "status", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return {row["service"]: row for row in json.loads(done.stdout)["scrapes"]["targets"]}


def write_page(product: Fleet, service: str) -> None:
    answer = product.exec(service, "sh", "-c", f"cat > /www/metrics <<'END'\n{PAGE}END\n")
    assert answer["exit_code"] == 0, answer


def test_the_metrics_of_a_service_reach_the_control_plane_under_its_name(product: Fleet) -> None:
    service = product.service("scraped")
    metrics = {"path": "/metrics", "interval_seconds": 1, "metric_names": ["!go_*"]}
    product.running(product.payload(service, config={"metrics": metrics}))
    # The page is not there yet.
    wait_until(lambda: "404" in targets(product).get(service[:40], {}).get("problem", ""), "a failure", SCRAPED_SECS)
    write_page(product, service)
    wait_until(lambda: targets(product)[service[:40]]["problem"] == "", "a scrape", SCRAPED_SECS)
    row = targets(product)[service[:40]]
    assert (row["samples"], row["kept"]) == (6, 5)

    def arrived() -> dict[str, dict[str, Any]]:
        return {item["name"]: item for item in stored(product.plane, "metrics", 1, service=service)}

    wait_until(lambda: "wait_seconds" in arrived(), "the metrics at the control plane", SCRAPED_SECS)
    found = arrived()
    assert found["hits_total"]["value"] == 5 and found["hits_total"]["labels"] == {"path": "/"}
    assert found["hits_total"]["type"] == "counter" and found["hits_total"]["service_id"] == service
    assert found["wait_seconds"]["histogram_buckets"] == [{"le": 0.5, "count": 2}, {"le": "+Inf", "count": 3}]
    assert {"up", "scrape_duration_seconds"} <= found.keys() and "go_goroutines" not in found
    product.send("stop", {"service_id": service, "remove": True})
    wait_until(lambda: service[:40] not in targets(product), "the end of the target", SCRAPED_SECS)


def test_the_labels_that_people_already_use_work_too(product: Fleet) -> None:
    service = product.service("labelled")
    labels = {"prometheus.io/scrape": "true", "prometheus.io/port": "8080", "prometheus.io/path": "/health"}
    product.running(product.payload(service, config={"labels": labels}))
    # The page of the health check is no metrics page; that it is asked for is what matters.
    wait_until(lambda: service[:40] in targets(product), "the target", SCRAPED_SECS)
    assert targets(product)[service[:40]]["url"].endswith(":8080/health")
