"""The short forms that people may write in a service file, turned into the contract's shapes. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping

from syntra.cli.service_document import Place
from syntra.cli.service_hints import unknown_key

Spellings = Mapping[Place, str]

IMAGE = ("registry", "repository", "tag", "digest")
VOLUME = ("name", "host_path", "container_path", "read_only", "external")
HEALTH = (
    *("type", "path", "port", "command"),
    *("interval_seconds", "timeout_seconds", "retries", "start_period_seconds", "restart_unhealthy"),
)
METRICS = ("port", "path", "interval_seconds", "metric_names", "native_histograms")
AUTOSCALE = ("min", "max", "cpu_percent")
RATE_LIMIT = ("average", "burst")
LOGS = ("multiline", "parse", "rate_limit")
LOG_RATE = ("lines_per_second", "bytes_per_second", "burst_seconds")
CANARY = ("steps", "max_error_percent", "min_requests")
CANARY_STEP = ("percent", "hold_seconds")
TMPFS = ("path", "options")
ULIMIT = ("soft", "hard")


class ServiceMistake(Exception):
    """What is wrong, and at which place of the file; `place` is empty for what the file does not mention.

    `mark` is the place to show the line of, where that is another one.
    """

    def __init__(self, place: Place, reason: str, *, name: str = "", mark: Place | None = None) -> None:
        super().__init__(f"{dotted(place) or name}: {reason}" if place or name else reason)
        self.place = place
        self.reason = reason
        self.name = name
        self.mark = place if mark is None else mark


def dotted(place: Place) -> str:
    """`volumes[1].name`, as errors write it."""
    shown = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).removeprefix(".")
    return shown if len(shown) <= 120 else shown[:119] + "…"


def shaped(key: str | int, written: object, place: Place, spellings: Spellings) -> object:
    """The contract's shape of what was written for a key of the payload. Raises ServiceMistake."""
    return _SHAPES.get(key, _as_is)(written, place, spellings)


def mapping(item: object, place: Place, known: tuple[str, ...]) -> dict[str, object]:
    """The item as a mapping of known keys. Raises ServiceMistake."""
    if item is None:
        return {}
    if not isinstance(item, dict):
        raise ServiceMistake(place, "is not a mapping of keys to values")
    inside = next((str(step) for step in reversed(place) if isinstance(step, str)), "")
    for key in item:
        if key not in known:
            raise ServiceMistake((*place, key), unknown_key(str(key), list(known), inside=inside))
    return item


def _as_is(written: object, _place: Place, _spellings: Spellings) -> object:
    return written


def _spelled(written: object, place: Place, spellings: Spellings) -> object:
    # A user or a tag may look like a number, and stays as it was written.
    if isinstance(written, int) and not isinstance(written, bool):
        return spellings.get(place, str(written))
    return spellings.get(place, written)


def _image(written: object, place: Place, spellings: Spellings) -> object:
    if isinstance(written, str):
        return written
    if not isinstance(written, dict):
        raise ServiceMistake(place, "is neither REGISTRY/REPOSITORY:TAG nor a mapping of these")
    parts = mapping(written, place, IMAGE)
    # A tag such as 1.10 reads as a number.
    return {key: spellings.get((*place, key), item) for key, item in parts.items() if item is not None}


def _texts_by_name(written: object, place: Place, spellings: Spellings) -> object:
    if isinstance(written, dict):
        return {key: spellings.get((*place, key), item) for key, item in written.items()}
    if not isinstance(written, list):
        raise ServiceMistake(place, "is neither a mapping nor a list of NAME=VALUE")
    pairs: dict[str, object] = {}
    for index, item in enumerate(written):
        name, equals, value = item.partition("=") if isinstance(item, str) else ("", "", "")
        if not equals or not name:
            raise ServiceMistake((*place, index), "is not NAME=VALUE")
        if name in pairs:
            raise ServiceMistake((*place, index), f"{name[:60]} is given twice")
        pairs[name] = value
    return pairs


def _words(written: object, place: Place, _spellings: Spellings) -> object:
    if not isinstance(written, str):
        return written
    try:
        return shlex.split(written)
    except ValueError as exc:
        raise ServiceMistake(place, "has a quote that does not end") from exc


def _list_of_texts(written: object, _place: Place, _spellings: Spellings) -> object:
    return [written] if isinstance(written, str) else written


def _volumes(written: object, place: Place, _spellings: Spellings) -> object:
    if not isinstance(written, list):
        raise ServiceMistake(place, "is not a list")
    return [_volume(item, (*place, index)) for index, item in enumerate(written)]


def _volume(item: object, place: Place) -> dict[str, object]:
    if not isinstance(item, str):
        return mapping(item, place, VOLUME)
    source, colon, target = item.partition(":")
    target, _, mode = target.partition(":")
    if source.startswith((".", "~")):
        raise ServiceMistake(
            place, f"{source[:80]!r} is a relative path; write it whole (/srv/data:/data), or give a volume's name"
        )
    if not colon or not source or not target or mode not in ("", "ro", "rw"):
        raise ServiceMistake(place, "is not NAME:/PATH or /HOST/PATH:/PATH, with :ro for read only")
    volume: dict[str, object] = {"container_path": target, "read_only": mode == "ro"}
    if source.startswith("/"):
        name = re.sub(r"[^A-Za-z0-9]+", "-", source).strip("-") or "root"
        return {"name": name, "host_path": source, **volume}
    return {"name": source, **volume}


def _rate_limit(written: object, place: Place, _spellings: Spellings) -> object:
    return mapping(written, place, RATE_LIMIT)


def _logs(written: object, place: Place, spellings: Spellings) -> object:
    parts = dict(mapping(written, place, LOGS))
    for key in ("multiline", "parse"):
        # YAML takes `off` for a boolean.
        if isinstance(parts.get(key), bool):
            parts[key] = spellings.get((*place, key), parts[key])
    if "rate_limit" in parts:
        parts["rate_limit"] = mapping(parts["rate_limit"], (*place, "rate_limit"), LOG_RATE)
    return parts


def _canary(written: object, place: Place, _spellings: Spellings) -> object:
    parts = mapping(written, place, CANARY)
    steps = parts.get("steps")
    if isinstance(steps, list):
        inner = (*place, "steps")
        parts["steps"] = [mapping(step, (*inner, index), CANARY_STEP) for index, step in enumerate(steps)]
    return parts


def _health_check(written: object, place: Place, _spellings: Spellings) -> object:
    if isinstance(written, str):
        return {"type": "http", "path": written}
    return mapping(written, place, HEALTH)


def _metrics(written: object, place: Place, _spellings: Spellings) -> object:
    # A port alone is the whole of it for most services.
    return {"port": written} if type(written) is int else mapping(written, place, METRICS)


def _autoscale(written: object, place: Place, _spellings: Spellings) -> object:
    return mapping(written, place, AUTOSCALE)


def _tmpfs(written: object, place: Place, _spellings: Spellings) -> object:
    items = [written] if isinstance(written, str) else written
    if not isinstance(items, list):
        raise ServiceMistake(place, "is not a list of /PATH or /PATH:OPTIONS")
    mounts: list[object] = []
    for index, item in enumerate(items):
        if isinstance(item, str):
            path, _, options = item.partition(":")
            mounts.append({"path": path, "options": options})
        else:
            mounts.append(mapping(item, (*place, index), TMPFS))
    return mounts


def _ulimits(written: object, place: Place, _spellings: Spellings) -> object:
    if not isinstance(written, dict):
        raise ServiceMistake(place, "is not a mapping of names to limits")
    return {
        name: mapping(item, (*place, name), ULIMIT) if isinstance(item, dict) else item
        for name, item in written.items()
    }


def _extra_hosts(written: object, place: Place, _spellings: Spellings) -> object:
    if isinstance(written, dict):
        return [f"{name}:{address}" for name, address in written.items()]
    if not isinstance(written, list):
        raise ServiceMistake(place, "is neither a mapping nor a list of NAME:ADDRESS")
    hosts: list[object] = []
    names: set[str] = set()
    for index, item in enumerate(written):
        # Compose takes both signs.
        name, _, address = item.replace("=", ":", 1).partition(":") if isinstance(item, str) else ("", "", "")
        if name in names:
            raise ServiceMistake((*place, index), f"{name[:60]} is given twice")
        names.add(name)
        hosts.append(f"{name}:{address}" if isinstance(item, str) else item)
    return hosts


_SHAPES: Mapping[str | int, Callable[[object, Place, Spellings], object]] = {
    "image": _image,
    "cpu_limit": _spelled,
    "memory_limit": _spelled,
    "shm_size": _spelled,
    "user": _spelled,
    "stop_signal": _spelled,
    "env_vars": _texts_by_name,
    "labels": _texts_by_name,
    "command": _words,
    "entrypoint": _words,
    "release_command": _words,
    "domains": _list_of_texts,
    "env_file": _list_of_texts,
    "cap_drop": _list_of_texts,
    "response_headers": _texts_by_name,
    "rate_limit": _rate_limit,
    "logs": _logs,
    "canary": _canary,
    "volumes": _volumes,
    "tmpfs": _tmpfs,
    "ulimits": _ulimits,
    "extra_hosts": _extra_hosts,
    "health_check": _health_check,
    "metrics": _metrics,
    "autoscale": _autoscale,
}
