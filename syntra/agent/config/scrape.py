"""An entry of `[[telemetry.scrape]]`: checked, and kept as JSON text with its keys sorted. Pure.

Raises `ValueError` with the reason only, as `values` does: a URL may hold what a terminal must not show.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from syntra.agent.config.suggest import hint

ENTRIES_MAX = 200
_GLOBS_MAX = 100
# What is left out is written down, not what is allowed: a set of most of Unicode takes 5 ms to compile.
_GLOB = re.compile(r"!?[^\x00-\x20\x7f-\xa0]{1,256}")
_JOB = re.compile(r"[^\x00-\x1f\x7f-\xa0]{1,255}")
_PATH = re.compile(r"/[^\x00-\x1f\x7f]{0,4095}")
_URL_MAX = 2048
_SECONDS = {"interval_secs": (1.0, 3600.0), "timeout_secs": (0.1, 300.0)}
_PATHS = ("headers_file", "ca_path", "cert_path", "key_path")
KEYS = ("url", "job", *_SECONDS, *_PATHS, "metric_names", "native_histograms")


def scrape_entry(item: object) -> str:
    """An entry from a table of the file, or from the JSON text of one."""
    if isinstance(item, str):
        try:
            item = json.loads(item)
        except ValueError:
            raise ValueError("holds what is neither a table nor the JSON text of one") from None
    if not isinstance(item, dict):
        raise ValueError("holds what is not a table, such as [[telemetry.scrape]]")
    for key in item:
        if key not in KEYS:
            shown = key if key.isprintable() and len(key) <= 40 else ascii(key)[:40]
            raise ValueError(f"has an unknown key {shown} in an entry{hint(key, KEYS)}")
    _check_url(item.get("url"))
    for key, (low, high) in _SECONDS.items():
        value = item.get(key)
        if value is not None and (type(value) not in (int, float) or not low <= value <= high):
            raise ValueError(f"has an entry whose {key} is not a number from {low:g} to {high:g}")
    for key in _PATHS:
        _check_text(item, key, _PATH, "an absolute path")
    _check_text(item, "job", _JOB, "a name")
    globs = item.get("metric_names", [])
    if not isinstance(globs, list) or len(globs) > _GLOBS_MAX:
        raise ValueError(f"has an entry whose metric_names is not a list of at most {_GLOBS_MAX}")
    if not all(isinstance(glob, str) and _GLOB.fullmatch(glob) for glob in globs):
        raise ValueError("has an entry whose metric_names holds what is not a name with * and ?")
    if not isinstance(item.get("native_histograms", False), bool):
        raise ValueError("has an entry whose native_histograms is not true or false")
    if (item.get("cert_path") is None) != (item.get("key_path") is None):
        raise ValueError("has an entry with only one of cert_path and key_path")
    _check_timeout(item)
    return json.dumps(item, sort_keys=True)


def scrape_texts(text: str) -> list[object]:
    """The entries of a variable: a JSON array of objects, or one object."""
    try:
        items = json.loads(text)
    except ValueError:
        items = None
    if isinstance(items, dict):
        return [items]
    if not isinstance(items, list):
        raise ValueError("expected a JSON array of objects")
    return items


def _check_url(url: object) -> None:
    if not isinstance(url, str):
        raise ValueError("has an entry without a url")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("has an entry whose url cannot be read") from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise ValueError("has an entry whose url does not start with http:// or https:// and a host")
    if "@" in parts.netloc:
        raise ValueError("has an entry whose url holds a user or password; use headers_file")
    if parts.fragment or " " in url or not (url.isascii() and url.isprintable()) or len(url) > _URL_MAX:
        raise ValueError("has an entry whose url has a fragment, spaces, other than ASCII, or is too long")


def _check_text(item: Mapping[str, object], key: str, pattern: re.Pattern[str], kind: str) -> None:
    value = item.get(key)
    if value is not None and not (isinstance(value, str) and pattern.fullmatch(value)):
        raise ValueError(f"has an entry whose {key} is not {kind}")


def _check_timeout(item: Mapping[str, object]) -> None:
    interval, timeout = item.get("interval_secs"), item.get("timeout_secs")
    both = isinstance(interval, (int, float)) and isinstance(timeout, (int, float))
    if both and timeout > interval:  # type: ignore[operator]  # numbers, as `both` says
        raise ValueError("has an entry whose timeout_secs is longer than its interval_secs")
