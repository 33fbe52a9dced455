"""The engine's data as frozen values, parsed once at the border.

Environments may contain secrets, so they never appear in a repr; nor do raw answers and outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import Enum

from syntra.utils.frozen import frozen


class Stream(Enum):
    """The stream of an output line. With a terminal all output is STDOUT."""

    STDOUT = "stdout"
    STDERR = "stderr"


@frozen
class LogRecord:
    """One line without its line end. `timestamp` is RFC 3339 with nanoseconds, fixed width; "" when unknown.

    `truncated`: the line was longer than 64 KiB; `message` is its start.
    """

    timestamp: str
    stream: Stream
    message: str
    truncated: bool = False


@frozen
class ContainerSummary:
    """One row of the container list. `created` is in seconds since the epoch."""

    id: str
    name: str
    image_id: str
    image_ref: str
    labels: Mapping[str, str]
    state: str
    status_text: str
    created: int
    addresses: Mapping[str, str]


@frozen
class ContainerState:
    """`status` is created, running, paused, restarting, removing, exited or dead.

    In a crash loop `running` stays true while `status` alternates: judge by `restart_count` and `started_at`.
    `health_status` is starting, healthy, unhealthy, or None without a health check. `pid` is 0 when not running.
    """

    status: str
    running: bool
    paused: bool
    restarting: bool
    exit_code: int
    error: str
    oom_killed: bool
    pid: int
    started_at: str
    finished_at: str
    health_status: str | None


@frozen
class ContainerDetails:
    """One container in full. `image_id` is the running image, `image_ref` the requested one: compare ids.

    `addresses`: network name to IP address, "" while not running. `raw` is the engine's answer.
    """

    id: str
    name: str
    image_id: str
    image_ref: str
    labels: Mapping[str, str]
    env: Mapping[str, str] = field(repr=False)
    state: ContainerState
    created: str
    restart_count: int
    tty: bool
    addresses: Mapping[str, str]
    restart_policy: str
    raw: Mapping[str, object] = field(repr=False)


@frozen
class ImageDetails:
    """One image. Built or loaded images have no `repo_digests`; images pulled by digest have no `repo_tags`."""

    id: str
    repo_tags: tuple[str, ...]
    repo_digests: tuple[str, ...]
    labels: Mapping[str, str]
    env: Mapping[str, str] = field(repr=False)
    created: str
    size_bytes: int
    stop_signal: str = ""
    volumes: frozenset[str] = frozenset()
    """The paths that it declares as volumes."""


@frozen
class ImageSummary:
    """One row of the image list. `created` is in seconds since the epoch."""

    id: str
    repo_tags: tuple[str, ...]
    repo_digests: tuple[str, ...]
    labels: Mapping[str, str]
    created: int
    size_bytes: int


@frozen
class NetworkDetails:
    """One network. `gateway` and `subnet` belong to its first IPv4 pool; "" without one.

    `pools`: every pool's subnet, and the host's own address in it or "". `bridge` is the host's interface.
    `containers`: ids of attached, running containers to their IPv4 address; empty in a list.
    """

    id: str
    name: str
    driver: str
    gateway: str
    subnet: str
    pools: tuple[tuple[str, str], ...]
    bridge: str
    labels: Mapping[str, str]
    created: str
    containers: Mapping[str, str]


@frozen
class VolumeDetails:
    """One volume. `mountpoint` is a path on the engine's host."""

    name: str
    driver: str
    mountpoint: str
    labels: Mapping[str, str]
    created: str


@frozen
class RegistryAuth:
    """Credentials for one pull. Never stored, never printed."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    server_address: str = ""


@frozen
class ExecOutcome:
    """A finished command. `truncated`: output beyond the limit was read and dropped."""

    exit_code: int
    stdout: bytes = field(repr=False)
    stderr: bytes = field(repr=False)
    truncated: bool


@frozen
class EngineEvent:
    """One event, e.g. type "container", action "die". `time_nano` is nanoseconds since the epoch.

    Health actions are `health_status: healthy`; exec actions come without the command, which may hold secrets.
    """

    type: str
    action: str
    id: str
    attributes: Mapping[str, str]
    time_nano: int


@frozen
class EngineInfo:
    """The engine and its host. `api_version` is the newest the engine speaks; `mem_total` is in bytes."""

    name: str
    server_version: str
    api_version: str
    os: str
    arch: str
    cgroup_version: int
    logging_driver: str
    root_dir: str
    ncpu: int
    mem_total: int
