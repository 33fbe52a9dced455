"""How a service's containers run, beyond image, command, environment and volumes. Every field is optional."""

from __future__ import annotations

from syntra.utils.frozen import frozen


@frozen
class Tmpfs:
    """A file system in memory at `path`; `options` as mount(8) writes them, such as `size=64m`, or empty."""

    path: str
    options: str = ""


@frozen
class Ulimit:
    """A resource limit of processes, as in setrlimit(2); -1 means no limit."""

    name: str
    soft: int
    hard: int


@frozen
class ExtraHost:
    """A line of /etc/hosts. `address` is an IP address, or `host-gateway`, which the engine replaces."""

    name: str
    address: str


@frozen
class ContainerOptions:
    """Docker's words for them; absent means as the image or the engine says.

    `stop_grace_secs` is the time from the stop signal to SIGKILL. `shm_bytes` is the size of /dev/shm. `cap_drop` has
    the kernel's names without `CAP_`, or `ALL`.
    """

    entrypoint: tuple[str, ...] = ()
    user: str | None = None
    working_dir: str | None = None
    init: bool = False
    stop_signal: str | None = None
    stop_grace_secs: float | None = None
    shm_bytes: int | None = None
    tmpfs: tuple[Tmpfs, ...] = ()
    ulimits: tuple[Ulimit, ...] = ()
    extra_hosts: tuple[ExtraHost, ...] = ()
    read_only: bool = False
    cap_drop: tuple[str, ...] = ()
