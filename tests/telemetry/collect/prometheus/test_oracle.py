"""Prometheus itself is the oracle: it scrapes the same pages, and every value agrees."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syntra.telemetry.collect.prometheus.lines import BadExposition
from tests.engine import missing, wait_until
from tests.telemetry.collect.prometheus.decoded import TIME_NS, normal, pages, series
from tests.telemetry.collect.prometheus.endpoint import OPEN_METRICS, TEXT, Endpoint, endpoint
from tests.telemetry.real_collector import free_port

SAMPLES = Path(__file__).parents[3] / "samples" / "prometheus"
START_SECS = 60.0

EDGES = r"""# HELP spaces   A help with \\ and \n in it
# TYPE spaces	counter
spaces{ a = "1" , b="2",}   5
spaces{a="2"} +7e-3
spaces{a=""} 8
# TYPE not_a_number gauge
not_a_number NaN
infinite{sign="+"} +Inf
infinite{sign="-"} -inf
escapes{a="\\ \" \n \d",b="ü€😀 {}=,# "} 1e308
tiny 4.9e-324
many_digits 0.1000000000000000055511151231257827
same 1
same 2

# TYPE h histogram
h_bucket{le="0.5"} 1
h_bucket{le="1e+01"} 3
h_bucket{le="+Inf"} 4
h_sum -3.5
h_count 4
# TYPE s summary
s{quantile="0.5"} 1
s{quantile="0.99"} NaN
s_sum 12
s_count 3
# nothing
#no space
untyped:name 3
"""
OPEN = """# TYPE requests counter
# HELP requests Requests with "quotes".
requests_total{code="200"} 5.0 # {trace_id="0af7651916cd43dd8448eb211c80319c"} 0.3 1520879607.789
requests_created{code="200"} 1520430000.123
# TYPE latency_seconds histogram
# UNIT latency_seconds seconds
latency_seconds_bucket{le="0.1"} 1 # {span_id="b7ad6b7169203331"} 0.05
latency_seconds_bucket{le="+Inf"} 2
latency_seconds_sum 1.5
latency_seconds_count 2
# TYPE build info
build_info{version="1"} 1
# EOF
"""
BROKEN = {
    "value": "a 1\nb x\n",
    "underscore": "a 1_000\n",
    "quote": 'a{b="c} 1\n',
    "name": "1a 2\n",
    "type": "# TYPE a thing\na 1\n",
    "range": "a 1e999\n",
    "no value": "a\n",
    "two times": "a 1 2 3\n",
    "bad utf-8": 'a{b="\udcff"} 1\n',
    "hexadecimal": "a 0x1p3\n",
    "carriage return": "a 1\r\n",
}


class Oracle:
    """A Prometheus that scrapes pages by their names."""

    def __init__(self, served: Endpoint, port: int) -> None:
        self._served = served
        self.port = port

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression now."""
        url = f"http://127.0.0.1:{self.port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(url, timeout=10) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
            return found

    def last_error(self) -> str:
        """Why the last scrape failed."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/targets", timeout=10) as answer:
            return str(json.load(answer)["data"]["activeTargets"][0]["lastError"])

    def read(self, page: bytes, content_type: str) -> dict[str, float] | None:
        """What it has of a page, without the series of the scrape; None when it could not read the page."""
        self._served.page, self._served.content_type = page, content_type
        count = len(self._served.requests)
        # Of two scrapes that begin from now on, the first is stored when the second begins.
        wait_until(lambda: len(self._served.requests) >= count + 3, "a scrape by Prometheus", START_SECS)
        [up] = self.query("up")
        if up["value"][1] == "0":
            return None
        own = {"up", *(f"scrape_{name}" for name in ("duration_seconds", "samples_scraped", "series_added"))}
        own |= {"scrape_samples_post_metric_relabeling"}
        found = {}
        for row in self.query('{job="oracle"}'):
            named = {key: text for key, text in row["metric"].items() if key not in ("__name__", "job", "instance")}
            if (name := row["metric"]["__name__"]) not in own:
                key, value = normal(name, named, float(row["value"][1]))
                found[key] = value
        return found


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oracle]:
    program = shutil.which("prometheus")
    if program is None:
        missing("no prometheus; install it (Debian: prometheus)")
    assert program is not None, "cannot happen because the test is skipped"
    folder = tmp_path_factory.mktemp("oracle")
    with endpoint() as served:
        target = {"targets": [f"127.0.0.1:{served.port}"]}
        job = {"job_name": "oracle", "scrape_interval": "500ms", "scrape_timeout": "500ms", "honor_labels": True}
        config = {"scrape_configs": [{**job, "static_configs": [target]}]}
        # JSON is YAML.
        (folder / "prometheus.yml").write_text(json.dumps(config))
        port = free_port()
        command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        command += [f"--web.listen-address=127.0.0.1:{port}", "--query.lookback-delta=2s"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env={"PATH": os.environ["PATH"]})
            try:
                wait_until(lambda: len(served.requests) >= 2, "Prometheus", START_SECS)
                yield Oracle(served, port)
            finally:
                process.kill()
                process.wait()


def check(oracle: Oracle, page: bytes, content_type: str = TEXT) -> dict[str, float]:
    """Both read the page, twice, and agree."""
    known = pages()
    is_open = content_type == OPEN_METRICS
    first = known.read(page, is_open=is_open, time_ns=TIME_NS)
    again = known.read(page, is_open=is_open, time_ns=TIME_NS)
    assert first == again
    ours = series(data for data, _ in first.data)
    theirs = oracle.read(page, content_type)
    assert theirs is not None, oracle.last_error()
    if is_open:
        # These become start times.
        theirs = {key: value for key, value in theirs.items() if not key.partition(" ")[0].endswith("_created")}
    assert ours.keys() == theirs.keys()
    different = {
        key for key in ours if ours[key] != theirs[key] and not (ours[key] != ours[key] and theirs[key] != theirs[key])
    }
    assert not different
    return ours


@pytest.mark.parametrize("name", ["node-exporter.txt", "prometheus.txt"])
def test_recorded_pages_agree(oracle: Oracle, name: str) -> None:
    assert len(check(oracle, (SAMPLES / name).read_bytes())) > 300


def test_prometheus_itself_agrees(oracle: Oracle) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{oracle.port}/metrics", timeout=10) as answer:
        page = answer.read()
    assert len(check(oracle, page)) > 300


def test_edges_of_the_text_format_agree(oracle: Oracle) -> None:
    assert len(check(oracle, EDGES.encode())) == 20


def test_openmetrics_agrees(oracle: Oracle) -> None:
    assert len(check(oracle, OPEN.encode(), OPEN_METRICS)) == 6


@pytest.mark.parametrize("page", BROKEN.values(), ids=BROKEN)
def test_what_prometheus_refuses_is_refused(oracle: Oracle, page: str) -> None:
    data = page.encode(errors="surrogateescape")
    assert oracle.read(data, TEXT) is None
    with pytest.raises(BadExposition):
        pages().read(data, is_open=False, time_ns=TIME_NS)
