"""One target over real connections: what is asked, how it may answer, and how every failure ends the one scrape."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import trustme

from syntra.telemetry.collect.prometheus.exposition import Limits
from syntra.telemetry.collect.prometheus.scraper import Scraper, Surroundings
from syntra.telemetry.collect.prometheus.scrapers import Scrapers
from syntra.telemetry.collect.prometheus.target import (
    Target,
    TlsFiles,
    address_of,
    offset_secs,
    request_of,
    scraped_attributes,
)
from syntra.telemetry.intake import Overloaded
from syntra.telemetry.shipping.headers import parse_headers
from syntra.telemetry.signals import Record
from syntra.utils.errors import AgentError
from tests.telemetry.collect.prometheus.decoded import series
from tests.telemetry.collect.prometheus.endpoint import OPEN_METRICS, Endpoint, endpoint


class Sink:
    """Keeps what is collected."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.is_full = False

    def reserve(self, size: int) -> AbstractContextManager[None]:
        if self.is_full:
            raise Overloaded("the agent's memory for requests is in use; try again", 1.0)
        return contextlib.nullcontext()

    async def collected(self, records: Sequence[Record], resource: bytes) -> None:
        assert b"service.name" in resource
        self.records += records

    def last(self) -> dict[str, float]:
        """The values of the last record."""
        return series([self.records[-1].data])


def around(sink: Sink, *, max_body_bytes: int = 1 << 20) -> Surroundings:
    return Surroundings(
        sink=sink,
        limits=Limits(),
        max_body_bytes=max_body_bytes,
        agent="syntra-agent/0",
        clock=time.monotonic,
        now_ns=time.time_ns,
        parse_headers=lambda text: parse_headers(text, of="telemetry.scrape"),
    )


def target(url: str, **given: Any) -> Target:
    timing = {"interval_secs": 60.0, "timeout_secs": 10.0}
    return Target(url=url, attributes=scraped_attributes(url, (), "job"), **{**timing, **given})


@pytest.fixture
def served() -> Iterator[Endpoint]:
    with endpoint() as made:
        yield made


async def scraped(to: Target, **given: Any) -> tuple[Sink, Any]:
    """One scrape: what is kept, and the row of `status`."""
    sink = Sink()
    scraper = Scraper(to, around(sink, **given))
    await scraper.scrape()
    scraper._disconnect()
    await asyncio.sleep(0)
    return sink, scraper.view()


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("gzips", [False, True])
async def test_an_answer_may_be_compressed_and_in_chunks(served: Endpoint, gzips: bool, is_chunked: bool) -> None:
    served.page = b"".join(b"m%d %d\n" % (number, number) for number in range(5000))
    served.gzips, served.is_chunked = gzips, is_chunked
    sink, row = await scraped(target(served.url("/m?a=b")))
    values = sink.last()
    assert row["problem"] == "" and row["samples"] == 5000
    assert values["m4999 {}"] == 4999 and values["up {}"] == 1
    [(path, headers)] = served.requests
    assert path == "/m?a=b"
    assert headers["Host"] == f"127.0.0.1:{served.port}" and headers["User-Agent"] == "syntra-agent/0"
    assert headers["Accept"].startswith("application/openmetrics-text;version=1.0.0")
    assert headers["X-Prometheus-Scrape-Timeout-Seconds"] == "10"


async def test_the_type_of_the_answer_says_its_format(served: Endpoint) -> None:
    served.page, served.content_type = b"# TYPE a counter\na_total 1\n# EOF\n", OPEN_METRICS
    sink, row = await scraped(target(served.url()))
    assert row["problem"] == "" and sink.last()["a_total {}"] == 1
    served.page = b"a 1\n"
    _, row = await scraped(target(served.url()))
    assert "ends with `# EOF`" in row["problem"]


async def test_one_connection_is_kept_and_replaced_when_the_target_has_closed_it(served: Endpoint) -> None:
    sink = Sink()
    scraper = Scraper(target(served.url()), around(sink))
    for number in range(3):
        served.page = b"a %d\n" % number
        await scraper.scrape()
        assert sink.last()["a {}"] == number
    assert served.connections == 1
    assert scraper._connection is not None and scraper._connection._transport is not None
    scraper._connection._transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
    await scraper.scrape()
    assert served.connections == 2 and scraper.view()["failures"] == 0
    scraper._disconnect()
    await asyncio.sleep(0)


async def test_headers_come_from_a_private_file_and_are_never_shown(served: Endpoint, tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("authorization=Bearer%20s3cr3t,x-scope=a\n")
    file.chmod(0o600)
    _, row = await scraped(target(served.url(), headers_file=str(file)))
    [(_, headers)] = served.requests
    assert (headers["authorization"], headers["x-scope"]) == ("Bearer s3cr3t", "a")
    assert "s3cr3t" not in str(row)
    file.chmod(0o644)
    _, row = await scraped(target(served.url(), headers_file=str(file)))
    assert f"run chmod 600 {file}" in row["problem"]
    file.write_text("s3cr3t")
    file.chmod(0o600)
    _, row = await scraped(target(served.url(), headers_file=str(file)))
    assert "cannot read the headers of telemetry.scrape: entry 1 is not name=value" in row["problem"]
    _, row = await scraped(target(served.url(), headers_file=str(tmp_path / "none")))
    assert row["problem"] == "it cannot be reached: No such file or directory"
    assert len(served.requests) == 1


async def test_tls_trusts_the_given_authority_and_shows_the_given_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()
    files = {name: str(tmp_path / name) for name in ("ca", "cert", "key")}
    authority.cert_pem.write_to_path(files["ca"])
    own = authority.issue_cert("client")
    own.private_key_pem.write_to_path(files["key"])
    own.cert_chain_pems[0].write_to_path(files["cert"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    with endpoint(context) as served:
        url = served.url(scheme="https")
        tls = TlsFiles(ca_path=files["ca"], cert_path=files["cert"], key_path=files["key"])
        _, row = await scraped(target(url, tls=tls))
        assert row["problem"] == "" and row["samples"] == 1
        _, row = await scraped(target(url))
        assert row["problem"].startswith("its certificate is not valid")
        _, row = await scraped(target(url, tls=TlsFiles(ca_path=files["ca"])))
        assert row["problem"] != ""
        _, row = await scraped(
            target(url, tls=TlsFiles(ca_path=files["ca"], cert_path=files["ca"], key_path=files["key"]))
        )
        assert row["problem"].startswith("cannot use its client certificate")


async def test_every_failure_is_down_with_its_reason(served: Endpoint) -> None:
    async def down(**given: Any) -> str:
        limits = {"max_body_bytes": given.pop("max_body_bytes", 1 << 20)}
        sink, row = await scraped(target(given.pop("url", served.url()), **given), **limits)
        assert row["failures"] == 1 and row["samples"] == 0
        assert {"up {}": 0.0, "scrape_samples_scraped {}": 0.0}.items() <= sink.last().items()
        return str(row["problem"])

    served.status = 404
    assert await down() == "it answers with HTTP status 404"
    served.status, served.page = 200, b"a 1\n" * 100
    assert await down(max_body_bytes=399) == "its body is larger than 399 bytes"
    served.page = b"a one\n"
    assert await down() == "cannot read a value: 'one' is not a number"
    served.delay_secs = 1.0
    assert await down(timeout_secs=0.1) == "it did not answer within 0.1 s"
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert (await down(url=f"http://127.0.0.1:{port}/")).startswith("it cannot be reached: ")
    await asyncio.sleep(0)


async def test_without_memory_the_scrape_fails_and_the_next_one_works(served: Endpoint) -> None:
    sink = Sink()
    sink.is_full = True
    scraper = Scraper(target(served.url()), around(sink))
    await scraper.scrape()
    assert "memory for requests is in use" in str(scraper.view()["problem"]) and served.requests == []
    sink.is_full = False
    await scraper.scrape()
    assert scraper.view()["problem"] == "" and sink.last()["up {}"] == 1
    scraper._disconnect()
    await asyncio.sleep(0)


async def test_a_slow_target_delays_no_other(served: Endpoint) -> None:
    with endpoint() as slow:
        slow.delay_secs = 5.0
        sink = Sink()
        targets = [target(one.url(), interval_secs=1.0, timeout_secs=1.0) for one in (slow, served)]
        scrapers = Scrapers(around(sink), max_targets=10, fixed=targets)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(scrapers.run())
            async with asyncio.timeout(30):
                while len(served.requests) < 3:
                    await asyncio.sleep(0.05)
            rows: Any = scrapers.view()["targets"]
            task.cancel()
        assert {row["url"]: row["problem"] for row in rows}[served.url()] == ""
        assert slow.url() in {row["url"] for row in rows if row["problem"]}


def test_targets_are_spread_over_their_interval_and_stay_where_they_are() -> None:
    offsets = [offset_secs(target(f"http://10.0.0.{number}/metrics")) for number in range(100)]
    assert all(0 <= offset < 60 for offset in offsets)
    assert len({int(offset // 10) for offset in offsets}) == 6
    assert offsets == [offset_secs(target(f"http://10.0.0.{number}/metrics")) for number in range(100)]


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("http://a", "a:80", "/metrics"),
        ("https://a/x?y", "a:443", "/x?y"),
        ("http://[::1]:9100/", "[::1]:9100", "/"),
    ],
)
def test_a_url_is_an_address_and_a_path(url: str, authority: str, path: str) -> None:
    address, found = address_of(url)
    assert (address.authority, found) == (authority, path)
    default = authority.endswith((":80", ":443"))
    host = authority.rpartition(":")[0] if default else authority
    assert f"\r\nHost: {host}\r\n".encode() in request_of(target(url), (), "x")


@pytest.mark.parametrize(
    "url", ["a", "ftp://a", "http://", "http://u:secret@a", "http://a/#b", "http://a:x", "http://a/ b"]
)
def test_a_url_that_cannot_be_scraped_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(AgentError, match="cannot scrape the URL") as refused:
        address_of(url)
    assert "secret" not in str(refused.value)
