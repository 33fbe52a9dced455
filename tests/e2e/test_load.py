"""The load that judges others, judged: a service that ends in the middle is noticed, with everything that it cut."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from syntra.networking.file_writer import FILE_NAME, FileWriter
from syntra.networking.routes import RouteTable
from syntra.networking.traefik import render
from tests.e2e.load import End, Load, RouteWatch
from tests.e2e.web_service import program
from tests.engine import wait_until
from tests.networking.real_traefik import PLAIN, RealTraefik, free_ports
from tests.networking.samples import endpoint, group, route

HOME = "127.0.0.1"
HOST = "a.example"


@contextmanager
def service() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The service as a process of its own."""
    (port,) = free_ports(1)
    with subprocess.Popen([program()], env={**os.environ, "PORT": str(port), "VERSION": "v1"}) as process:
        try:
            yield process, port
        finally:
            process.kill()


def test_a_service_that_ends_is_counted_with_all_that_it_cut(tmp_path: Path) -> None:
    with RealTraefik(tmp_path) as traefik, service() as (process, port):
        routes = group(endpoint(HOME, port))
        FileWriter(traefik.directory).write(render(RouteTable((route("a", HOST, groups=(routes,)),)), PLAIN))
        wait_until(lambda: traefik.get(HOST).status == 200, "the service answers")
        with (
            RouteWatch(traefik.directory / FILE_NAME) as watch,
            Load(traefik.web, HOST, rate=50, websockets=5) as load,
        ):
            time.sleep(2)
            killed = time.monotonic()
            process.terminate()
            time.sleep(1)
    report = load.report
    assert report.answers["v1"] > 50
    # Every request after the end, and the slow ones that were under way.
    assert report.failed > 50 and any("/slow: 502" in failure for failure in report.failures), str(report)
    assert report.opened == len(report.ends) == 5 and report.echoes >= 5, str(report)
    assert all(killed <= end.at <= killed + 1 for end in report.ends)
    assert watch.cut(report.ends, 5.0) == (list(report.ends), [])


def test_a_websocket_is_cut_unless_its_replica_was_out_of_the_routes_for_the_drain_time(tmp_path: Path) -> None:
    def end(at: float, address: str = HOME) -> End:
        return End(address=address, opened=at - 1, at=at, how="")

    path = tmp_path / FILE_NAME
    path.write_text(f'"url": "http://{HOME}:8080"')
    with RouteWatch(path) as watch:
        wait_until(lambda: watch.knows(HOME), "the watch sees the address")
        there = time.monotonic()
        path.write_text("")
        wait_until(lambda: watch.left(HOME, time.monotonic()) is not None, "the watch sees it leave")
    left = watch.left(HOME, time.monotonic())
    assert left is not None
    assert watch.cut([end(there)], 5.0)[0], "it was in the routes"
    assert watch.cut([end(left + 4.9)], 5.0) == ([end(left + 4.9)], [])
    assert watch.cut([end(left + 5.1)], 5.0) == ([], [end(left + 5.1)])
    assert watch.cut([end(left + 9, "127.0.0.9")], 5.0)[0], "nobody knows of a drain"
