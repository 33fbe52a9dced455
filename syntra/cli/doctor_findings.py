"""What `doctor` makes of the facts that it collected: findings, each with the command that mends it. Pure."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from syntra.cli.reading import Json, number, rows, section, text, texts
from syntra.cli.table import size
from syntra.utils.frozen import frozen

SKEW_SECS = 10.0
"""The `Date` of HTTP counts in seconds, and an answer may take some."""
FULL_PERCENT = 90.0
CERTIFICATE_DAYS = 14.0
"""An authority such as Let's Encrypt is asked 30 days before the end; so nothing renewed this one."""
LEAST_KERNEL = (3, 10)
"""The oldest that Docker Engine supports (its manual, "Install from binaries")."""


class State(enum.Enum):
    """How a check ended; the values are those of `--json`."""

    OK = "ok"
    WRONG = "wrong"
    NOT_CHECKED = "not_checked"


@frozen
class Finding:
    """`fix` is the command that mends it, "" where there is none."""

    check: str
    state: State
    detail: str
    fix: str = ""


@frozen
class Disk:
    """A file system. Percentages of what is in use; `inodes_percent` is None where it has no fixed number of them."""

    path: str
    free_bytes: int
    percent: float
    inodes_percent: float | None


@frozen
class Engine:
    """What runs containers: `kind` is `docker` or `kubernetes`. `root` is the engine's directory, "" if unknown."""

    kind: str
    name: str
    version: str
    address: str
    root: str = ""


@frozen
class Port:
    """A port of the proxy. `holder` is who has it, "" for a free port."""

    number: int
    holder: str


@frozen
class Certificate:
    """A certificate of this machine: where it is, and the days until it ends."""

    name: str
    path: str
    days_left: float


def ok(check: str, detail: str) -> Finding:
    """All is well."""
    return Finding(check=check, state=State.OK, detail=detail)


def wrong(check: str, detail: str, fix: str = "") -> Finding:
    """Something has to be mended."""
    return Finding(check=check, state=State.WRONG, detail=detail, fix=fix)


def not_checked(check: str, reason: str) -> Finding:
    """There is nothing to check, or no way to do it."""
    return Finding(check=check, state=State.NOT_CHECKED, detail=f"not checked: {reason}")


def of_agent(status: Json, own_version: str) -> list[Finding]:
    """The agent that runs: its version, what it warns of, and its open alerts."""
    agent = section(status, "agent")
    version = text(agent, "version")
    about = f"{text(agent, 'agent_id')} {version} runs, pid {text(agent, 'pid')}"
    found = [ok("agent", about)]
    if version != own_version:
        detail = f"{about}, but this program is {own_version}"
        found = [wrong("agent", detail, "systemctl restart syntra-agent")]
    found += [wrong("warning", warning) for warning in texts(status, "warnings")]
    return found + [
        wrong("alert", f"{text(alert, 'type')}, {text(alert, 'subject')}", "syntra-agent status")
        for alert in rows(status, "alerts")
    ]


def of_engine(engine: Engine) -> Finding:
    """The engine or cluster that answered."""
    return ok("engine", f"{engine.name} {engine.version} at {engine.address}")


def of_socket(path: str, mode: int, what: str) -> Finding:
    """A socket whose owner is as good as root: others must not write to it."""
    if mode & 0o002:
        return wrong("socket", f"every user may use {what} {path} (mode {mode & 0o777:04o})", f"chmod o-rw {path}")
    return ok("socket", f"{what} {path} has mode {mode & 0o777:04o}")


def of_clock(skew_secs: float) -> Finding:
    """This machine's clock beside the control plane's; positive: this one is ahead."""
    if abs(skew_secs) <= SKEW_SECS:
        return ok("clock", f"agrees with the control plane's within {SKEW_SECS:g} s")
    way = "ahead of" if skew_secs > 0 else "behind"
    return wrong("clock", f"{abs(skew_secs):.0f} s {way} the control plane's", "timedatectl set-ntp true")


def of_connection(status: Json) -> Finding | None:
    """The agent's own connection, if it is not ready; a server that answers may still refuse this agent."""
    known = section(status, "control_plane")
    if not text(known, "endpoint", "") or text(known, "state") == "ready":
        return None
    return wrong("connection", text(known, "detail", text(known, "state")), "syntra-agent config check")


def of_disk(check: str, disk: Disk) -> Finding:
    """Room and inodes of a directory's file system."""
    inodes = "" if disk.inodes_percent is None else f", {disk.inodes_percent:.0f} % of the inodes"
    detail = f"{disk.path}: {disk.percent:.0f} % in use{inodes}, {size(disk.free_bytes)} free"
    if max(disk.percent, disk.inodes_percent or 0.0) < FULL_PERCENT:
        return ok(check, detail)
    what = "--inodes " if disk.percent < FULL_PERCENT else ""
    return wrong(check, detail, f"du -x {what}--max-depth 1 {disk.path} | sort -n")


def of_cgroup(version: int) -> Finding:
    """The control groups of the host; 0: none is mounted."""
    if version:
        return ok("cgroup", f"version {version}")
    return wrong("cgroup", "no control groups are mounted at /sys/fs/cgroup", "mount -t cgroup2 none /sys/fs/cgroup")


def of_kernel(release: str) -> Finding:
    """The kernel's release, such as `6.1.0-18-amd64`."""
    numbers = release.partition("-")[0].split(".")[:2]
    if all(part.isdecimal() for part in numbers) and tuple(map(int, numbers)) < LEAST_KERNEL:
        return wrong("kernel", f"Linux {release} is older than 3.10", "uname -r")
    return ok("kernel", f"Linux {release}")


def of_ports(ports: Sequence[Port], proxy: Json | None, domains: Sequence[str]) -> list[Finding]:
    """The proxy's ports. `proxy` is the agent's `proxy_status`, None without an agent; `domains` need a proxy."""
    is_routed = proxy is not None and section(proxy, "api").get("reachable") is True
    if is_routed:
        held = ", ".join(f"{port.number} by {port.holder or 'none'}" for port in ports)
        return [ok("ports", f"Traefik {text(proxy or {}, 'version')} answers; {held}")]
    found = [
        wrong("ports", f"port {port.number} is held by {port.holder}, and no proxy answers", _end(port))
        for port in ports
        if port.holder
    ]
    if found:
        return found
    free = " and ".join(str(port.number) for port in ports)
    if domains:
        return [wrong("ports", f"{free} are free: nothing routes {domains[0]} yet", "syntra-agent proxy up")]
    return [ok("ports", f"{free} are free for the proxy")]


def _end(port: Port) -> str:
    name = port.holder.partition(" ")[0]
    if port.holder.startswith("container "):
        return f"docker stop {port.holder.split()[1]}"
    return f"systemctl stop {name}" if "(pid" in port.holder else f"ss -ltnp sport = :{port.number}"


def of_proxy(proxy: Json) -> list[Finding]:
    """What the agent found wrong with its proxy and the routes."""
    problems = texts(proxy, "problems")
    if problems:
        return [wrong("proxy", problem, "syntra-agent proxy up") for problem in problems]
    kind = {"ours": "managed by this agent", "foreign": "not managed by this agent"}.get(text(proxy, "kind"), "none")
    return [ok("proxy", kind)]


def of_certificates(certificates: Sequence[Certificate]) -> list[Finding]:
    """Certificates near their end, one line each; one line when there is none."""
    near = [one for one in certificates if one.days_left <= CERTIFICATE_DAYS]
    if near:
        return [
            wrong(
                "certificates",
                f"{one.name} " + (f"ends in {one.days_left:.0f} days" if one.days_left > 0 else "has expired"),
                "syntra-agent proxy status" if one.path.endswith("acme.json") else f"ls -l {one.path}",
            )
            for one in near
        ]
    if not certificates:
        return [ok("certificates", "none")]
    first = min(certificates, key=lambda one: one.days_left)
    return [ok("certificates", f"{len(certificates)}; the first to end is {first.name}, in {first.days_left:.0f} days")]


def of_own_certificate(status: Json) -> list[Certificate]:
    """The agent's client certificate, as `status` describes it."""
    known = section(section(status, "control_plane"), "certificate")
    days = number(known, "days_left")
    return [] if days is None else [Certificate(name="the agent's client certificate", path="", days_left=days)]


def of_journal(status: Json) -> Finding:
    """The journal's queue of messages to the control plane."""
    journal = section(status, "journal")
    dropped, waiting = number(journal, "dropped") or 0, number(journal, "outbox") or 0
    if dropped:
        return wrong("journal", f"{dropped:.0f} messages to the control plane were dropped", "syntra-agent status")
    return ok("journal", f"{waiting:.0f} messages wait for the control plane, none was dropped")


def of_telemetry(telemetry: Json) -> list[Finding]:
    """The telemetry process and its buffer."""
    buffer = section(telemetry, "buffer")
    problems = [text(telemetry, "problem", "")]
    problems += [text(row, "problem", "") for row in (*rows(telemetry, "receivers"), *rows(telemetry, "destinations"))]
    if memory_only := text(buffer, "memory_only", ""):
        problems.append(f"the buffer is in memory only: {memory_only}")
    found = list(filter(None, dict.fromkeys(problems)))
    if found:
        return [wrong("telemetry", problem, "syntra-agent telemetry status") for problem in found]
    used, limit = number(buffer, "bytes") or 0, number(buffer, "max_bytes") or 0
    return [ok("telemetry", f"works; the buffer has {size(used)} of {size(limit)}")]


def shown_json(findings: Sequence[Finding]) -> dict[str, object]:
    """For programs."""
    checks = [
        {"check": one.check, "state": one.state.value, "detail": one.detail, "fix": one.fix or None} for one in findings
    ]
    return {"ok": all(one.state is not State.WRONG for one in findings), "checks": checks}
