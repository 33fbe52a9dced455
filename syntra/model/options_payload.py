"""Container options from and to the `config` section of a deploy payload.

Every key is the agent's own and optional. Only what is set is rendered: containers are recognised by the fingerprint of
it.
What would take a container out of its isolation is refused by name, so that it is not thought to be in effect.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from syntra.model.container_options import ContainerOptions, ExtraHost, Tmpfs, Ulimit
from syntra.model.errors import InvalidField
from syntra.model.fields import Fields, Json
from syntra.model.paths import absolute_path
from syntra.utils.quantities import parse_bytes

MAX_STOP_GRACE_SECS = 3600.0
MAX_ENTRIES = 100
HOST_GATEWAY = "host-gateway"

REFUSED: Mapping[str, str] = {
    "privileged": "a privileged container has the rights of root on this server",
    "cap_add": "more capabilities than the engine's own set reach beyond the container",
    "devices": "devices of this server are not handed to services",
    "network_mode": "every service is in the network of its project, where it is found by name and routed to",
    "pid": "the processes of this server or of another container are not shown to services",
    "ipc": "shared memory of this server or of another container is not handed to services",
    "userns_mode": "the user namespace of a container is the engine's to choose",
}
"""Settings that are not carried out, with the reason."""

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_TMPFS_OPTIONS = re.compile(r"[a-z]+(?:=[A-Za-z0-9%.]+)?(?:,[a-z]+(?:=[A-Za-z0-9%.]+)?)*")
_CAPABILITY = re.compile(r"[A-Z][A-Z_]{1,40}")
# The names of setrlimit(2), as the engine takes them (moby: go-units, ulimit.go).
_ULIMITS = frozenset(
    {
        *("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice"),
        *("nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack"),
    }
)
_UNLIMITED = -1
_MAX_LIMIT = 2**63 - 1
_LAST_SIGNAL = 64
# signal(7), without SIGKILL, which leaves no grace.
_SIGNALS = frozenset(
    {
        *("ABRT", "ALRM", "BUS", "CHLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "PIPE", "PROF", "PWR", "QUIT"),
        *("SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2"),
        *("VTALRM", "WINCH", "XCPU", "XFSZ"),
        *(f"RTMIN+{offset}" for offset in range(1, 16)),
        *(f"RTMAX-{offset}" for offset in range(1, 15)),
        *("RTMIN", "RTMAX"),
    }
)


def refusal(key: str, reason: str) -> str:
    """What is said of one of the REFUSED settings."""
    return f"is refused: {reason}; remove {key}"


def parse_options(config: Fields | None) -> ContainerOptions:
    """The options of a `config` section; without one, none. Raises InvalidField."""
    if config is None:
        return ContainerOptions()
    for key, reason in REFUSED.items():
        path, value = config.raw(key)
        if value:
            raise InvalidField(path, refusal(key, reason))
    has_grace = config.has("stop_grace_seconds")
    return ContainerOptions(
        entrypoint=config.texts("entrypoint"),
        user=_matching(config, "user", _USER, "is not a user (NAME or ID, with :GROUP if needed)"),
        working_dir=_working_dir(config),
        init=config.boolean("init", default=False),
        stop_signal=_stop_signal(config),
        stop_grace_secs=config.number("stop_grace_seconds", low=0, high=MAX_STOP_GRACE_SECS) if has_grace else None,
        shm_bytes=_size(config, "shm_size"),
        tmpfs=_tmpfs(config),
        ulimits=_ulimits(config),
        extra_hosts=_extra_hosts(config),
        read_only=config.boolean("read_only", default=False),
        cap_drop=_cap_drop(config),
    )


def render_options(options: ContainerOptions) -> dict[str, Json]:
    """What `parse_options` reads back; what is not set is left out."""
    rendered: dict[str, Json] = {
        "entrypoint": list(options.entrypoint),
        "user": options.user,
        "working_dir": options.working_dir,
        "init": options.init,
        "stop_signal": options.stop_signal,
        "shm_size": str(options.shm_bytes) if options.shm_bytes else None,
        "tmpfs": [{"path": mount.path, "options": mount.options} for mount in options.tmpfs],
        "ulimits": {limit.name: {"soft": limit.soft, "hard": limit.hard} for limit in options.ulimits},
        "extra_hosts": [f"{host.name}:{host.address}" for host in options.extra_hosts],
        "read_only": options.read_only,
        "cap_drop": list(options.cap_drop),
    }
    kept = {key: value for key, value in rendered.items() if value}
    if options.stop_grace_secs is not None:
        kept["stop_grace_seconds"] = options.stop_grace_secs
    return kept


def _matching(config: Fields, key: str, pattern: re.Pattern[str], problem: str) -> str | None:
    text = config.optional_text(key)
    if text is not None and pattern.fullmatch(text) is None:
        raise InvalidField(config.at(key), f"{text[:80]!r} {problem}")
    return text


def _working_dir(config: Fields) -> str | None:
    text = config.optional_text("working_dir")
    if text is None:
        return None
    # A working directory below /proc/self/fd escapes the container on old runc (CVE-2024-21626).
    directory = absolute_path(text, outside=("proc",))
    if directory is None:
        raise InvalidField(
            config.at("working_dir"), f"{text[:80]!r} is not an absolute path outside /proc, without `..`"
        )
    return directory


def _stop_signal(config: Fields) -> str | None:
    text = config.quantity("stop_signal")
    if not text:
        return None
    if text.isascii() and text.isdigit() and len(text) < 3 and 1 <= int(text) <= _LAST_SIGNAL:
        return text
    name = text.upper().removeprefix("SIG")
    if name not in _SIGNALS:
        raise InvalidField(config.at("stop_signal"), f"{text[:40]!r} is not a signal (like SIGTERM, QUIT or 15)")
    return f"SIG{name}"


def _size(config: Fields, key: str) -> int | None:
    text = config.quantity(key)
    if text is None:
        return None
    size = parse_bytes(text)
    if size is None or size > _MAX_LIMIT:
        raise InvalidField(config.at(key), f"{text[:40]!r} is not a size (like 64m, 1g or bytes)")
    return size


def _tmpfs(config: Fields) -> tuple[Tmpfs, ...]:
    mounts: list[Tmpfs] = []
    for item in config.sections("tmpfs", limit=MAX_ENTRIES):
        text, options = item.text("path"), item.text("options", default="")
        path = absolute_path(text)
        if path is None or path == "/":
            raise InvalidField(item.at("path"), f"{text[:80]!r} is not an absolute path below `/`, without `..`")
        if options and _TMPFS_OPTIONS.fullmatch(options) is None:
            raise InvalidField(
                item.at("options"), f"{options[:80]!r} is not a list of options (like size=64m,mode=1777)"
            )
        if any(mount.path == path for mount in mounts):
            raise InvalidField(item.at("path"), f"{path[:80]} is given twice")
        mounts.append(Tmpfs(path=path, options=options))
    return tuple(mounts)


def _ulimits(config: Fields) -> tuple[Ulimit, ...]:
    limits = config.section("ulimits")
    if limits is None:
        return ()
    found = []
    for name in sorted(limits.keys()):
        if name not in _ULIMITS:
            raise InvalidField(limits.at(name[:40]), f"is not a limit; these are: {', '.join(sorted(_ULIMITS))}")
        _, value = limits.raw(name)
        both = limits.section(name) if isinstance(value, Mapping) else None
        soft = (both.integer("soft", low=_UNLIMITED, high=_MAX_LIMIT)) if both else _limit(limits, name)
        hard = (both.integer("hard", low=_UNLIMITED, high=_MAX_LIMIT)) if both else soft
        if hard != _UNLIMITED and (soft == _UNLIMITED or soft > hard):
            raise InvalidField(limits.at(name), f"the soft limit {soft} is above the hard limit {hard}")
        found.append(Ulimit(name=name, soft=soft, hard=hard))
    return tuple(found)


def _limit(limits: Fields, name: str) -> int:
    return limits.integer(name, low=_UNLIMITED, high=_MAX_LIMIT)


def _extra_hosts(config: Fields) -> tuple[ExtraHost, ...]:
    path, _ = config.raw("extra_hosts")
    hosts: list[ExtraHost] = []
    for index, text in enumerate(config.texts("extra_hosts", limit=MAX_ENTRIES)):
        name, _, address = text.partition(":")
        if _HOST.fullmatch(name) is None or not (address == HOST_GATEWAY or _is_address(address)):
            raise InvalidField(f"{path}[{index}]", f"{text[:80]!r} is not NAME:ADDRESS, or NAME:{HOST_GATEWAY}")
        hosts.append(ExtraHost(name=name, address=address))
    return tuple(hosts)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _cap_drop(config: Fields) -> tuple[str, ...]:
    path, _ = config.raw("cap_drop")
    names = []
    for index, text in enumerate(config.texts("cap_drop", limit=MAX_ENTRIES)):
        name = text.upper().removeprefix("CAP_")
        if _CAPABILITY.fullmatch(name) is None:
            raise InvalidField(f"{path}[{index}]", f"{text[:40]!r} is not a capability (like NET_RAW or ALL)")
        names.append(name)
    return tuple(dict.fromkeys(names))
