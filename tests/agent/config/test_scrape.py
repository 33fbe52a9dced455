"""Entries of `[[telemetry.scrape]]`: read from the file as tables, shown and read again as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from syntra.agent.config.errors import ConfigurationError
from syntra.agent.config.load import load
from tests.agent.config.test_load import write

FULL = """
[[telemetry.scrape]]
url = "https://10.0.0.9:9100/metrics?name[]=up"
job = "node"
interval_secs = 60
timeout_secs = 2.5
metric_names = ["node_*", "!*_info"]
native_histograms = true
headers_file = "/etc/syntra/scrape"
ca_path = "/etc/syntra/ca.crt"
cert_path = "/c"
key_path = "/k"
[[telemetry.scrape]]
url = "http://[::1]:9090"
"""


def test_tables_are_entries_in_their_order(tmp_path: Path) -> None:
    first, second = map(json.loads, load(write(tmp_path / "a.toml", FULL), environ={}).settings.telemetry.scrape)
    assert (first["job"], first["interval_secs"], first["metric_names"]) == ("node", 60, ["node_*", "!*_info"])
    assert second == {"url": "http://[::1]:9090"}


def test_what_is_shown_can_be_loaded_again(tmp_path: Path) -> None:
    entries = load(write(tmp_path / "a.toml", FULL), environ={}).settings.telemetry.scrape
    again = f"[telemetry]\nscrape = {json.dumps(list(entries))}\n"
    assert load(write(tmp_path / "b.toml", again), environ={}).settings.telemetry.scrape == entries


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ('job = "x"', "without a url"),
        ('url = "ftp://a"', "does not start with http"),
        ('url = "http://me:secret@a"', "holds a user or password; use headers_file"),
        ('url = "http://a/#x"', "has a fragment"),
        ('url = "http://a b/"', "has a fragment, spaces"),
        ('url = "http://a"\ninterval = 5', "unknown key interval in an entry, did you mean interval_secs?"),
        ('url = "http://a"\ninterval_secs = 0.5', "interval_secs is not a number from 1 to 3600"),
        ('url = "http://a"\ninterval_secs = true', "interval_secs is not a number from 1 to 3600"),
        ('url = "http://a"\ninterval_secs = 5\ntimeout_secs = 6', "timeout_secs is longer than its interval_secs"),
        ('url = "http://a"\nheaders_file = "here"', "headers_file is not an absolute path"),
        ('url = "http://a"\ncert_path = "/c"', "only one of cert_path and key_path"),
        ('url = "http://a"\nnative_histograms = "yes"', "native_histograms is not true or false"),
        ('url = "http://a"\nmetric_names = "x"', "metric_names is not a list"),
        ('url = "http://a"\nmetric_names = ["a b"]', "metric_names holds what is not a name"),
    ],
)
def test_an_entry_that_cannot_work_is_refused_without_its_url(entry: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"telemetry\.scrape: ") as refused:
        load(write(tmp_path / "a.toml", f"[[telemetry.scrape]]\n{entry}\n"), environ={})
    assert reason in str(refused.value)
    assert "secret" not in str(refused.value)


def test_the_same_entry_twice_is_refused(tmp_path: Path) -> None:
    entry = '[[telemetry.scrape]]\nurl = "http://a"\n'
    with pytest.raises(ConfigurationError, match="duplicate entry"):
        load(write(tmp_path / "a.toml", entry * 2), environ={})


def test_a_section_without_a_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"expected tables \[\[telemetry.scrape\]\], got a table"):
        load(write(tmp_path / "a.toml", '[telemetry.scrape]\nurl = "http://a"\n'), environ={})


def test_the_timeout_of_all_targets_is_within_their_interval(tmp_path: Path) -> None:
    text = "[telemetry.prometheus]\ninterval_secs = 5\n"
    with pytest.raises(ConfigurationError, match="timeout_secs: 10 is longer than interval_secs, 5"):
        load(write(tmp_path / "a.toml", text), environ={})


def test_endpoints_need_the_telemetry_process(tmp_path: Path) -> None:
    text = '[telemetry]\nreceivers = "off"\n[[telemetry.scrape]]\nurl = "http://a"\n'
    with pytest.raises(ConfigurationError, match=r"telemetry\.scrape: needs telemetry\.receivers = on"):
        load(write(tmp_path / "a.toml", text), environ={})
