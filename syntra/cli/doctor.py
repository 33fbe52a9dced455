"""`doctor`: checks the machine, the engine, the agent and the control plane; a line each, with what mends it."""

from __future__ import annotations

import argparse
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from syntra import __version__
from syntra.agent.config.load import Loaded, load
from syntra.agent.config.settings import Settings
from syntra.cli import doctor_facts as facts
from syntra.cli import doctor_findings as findings
from syntra.cli.agent_client import ask
from syntra.cli.doctor_findings import Finding, State, not_checked, ok, wrong
from syntra.cli.exit_codes import CliError, CommandFailed, ExitCode
from syntra.cli.look import CYAN, YELLOW, add_color, look_of
from syntra.cli.options import add_json, socket_path
from syntra.cli.reading import Json, number, rows, section, text, texts
from syntra.cli.terminal import out, out_json, printable
from syntra.runtime.kubernetes.errors import ApiRefusal, ClusterUnavailable
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

CHECK_SECS = 15.0
"""The longest that one check may take; they run side by side."""
STATUS_SECS = 8.0

Check = Callable[[], Sequence[Finding]]


@frozen
class Known:
    """What the checks start from. `status` is None without an agent that answers; `problem` says why."""

    loaded: Loaded
    socket: Path
    status: Json | None
    problem: CliError | None
    environ: dict[str, str]

    @property
    def settings(self) -> Settings:
        return self.loaded.settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--color, --json."""
    add_color(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Check and print; 3 when something is wrong."""
    found: list[Finding] = [_program()]
    try:
        loaded = load(args.config, environ=os.environ)
        found.append(ok("configuration", f"valid, {loaded.path}" if loaded.found else "defaults apply"))
        found += [wrong("configuration", warning) for warning in loaded.warnings]
    except AgentError as failed:
        found.append(wrong("configuration", str(failed), "syntra-agent config check"))
        loaded = Loaded(settings=Settings(), origins={}, path=Path(), found=False)
    known = _known(loaded, socket_path(args))
    found += _side_by_side(_checks(known))
    is_well = all(one.state is not State.WRONG for one in found)
    if args.json:
        out_json(findings.shown_json(found))
    else:
        _show(found, args.color)
    return ExitCode.OK if is_well else ExitCode.NOT_WELL


def _known(loaded: Loaded, socket: Path) -> Known:
    status, problem, pid = None, None, 0
    try:
        status = ask(socket, "status", {}, timeout=STATUS_SECS)
        pid = int(number(section(status, "agent"), "pid") or 0)
    except CliError as failed:
        problem = failed
    environ = facts.environment_of(pid)
    return Known(loaded=loaded, socket=socket, status=status, problem=problem, environ=environ)


def _checks(known: Known) -> dict[str, Check]:
    return {
        "agent": lambda: _agent(known),
        "engine": lambda: _engine(known),
        "socket": lambda: _socket(known),
        "control plane": lambda: _control_plane(known),
        "dns": lambda: [_dns(known)],
        "ports": lambda: _ports(known),
        "disk": lambda: [findings.of_disk("disk", facts.disk(known.settings.data_dir))],
        "cgroup": lambda: [findings.of_cgroup(facts.cgroup_version())],
        "kernel": lambda: [findings.of_kernel(os.uname().release)],
        "certificates": lambda: _certificates(known),
        "journal": lambda: _journal(known),
        "telemetry": lambda: _telemetry(known),
    }


def _side_by_side(checks: dict[str, Check]) -> list[Finding]:
    """Run all checks at once, each within CHECK_SECS; in the order in which they are listed."""
    ended: queue.SimpleQueue[tuple[str, Sequence[Finding]]] = queue.SimpleQueue()

    def run_one(name: str, check: Check) -> None:
        try:
            ended.put((name, check()))
        except (AgentError, OSError) as failed:
            ended.put((name, [wrong(name, str(failed))]))

    for name, check in checks.items():
        # As daemons: a file system or an engine that never answers must not keep the program from ending.
        threading.Thread(target=run_one, args=(name, check), name=f"check {name}", daemon=True).start()
    deadline = time.monotonic() + CHECK_SECS
    results: dict[str, Sequence[Finding]] = {}
    while len(results) < len(checks):
        try:
            name, found = ended.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        results[name] = found
    late = f"no answer within {CHECK_SECS:g} s"
    return [one for name in checks for one in results.get(name, [wrong(name, late)])]


def _program() -> Finding:
    from syntra.cli.build_facts import SOURCE, build_facts, program_folder
    from syntra.cli.version import libc

    target = build_facts(program_folder()).target if "__compiled__" in globals() else SOURCE
    python = ".".join(map(str, sys.version_info[:3]))
    return ok("program", f"{__version__}, {target}, python {python}, {os.uname().machine}, {libc()}")


def _agent(known: Known) -> list[Finding]:
    if known.status is not None:
        return findings.of_agent(known.status, __version__)
    fix = {ExitCode.REFUSED: "sudo syntra-agent doctor", ExitCode.TEMPORARY: "journalctl -u syntra-agent"}
    problem = known.problem
    assert problem is not None, "cannot happen because there is a status or a problem"
    return [wrong("agent", _reason(problem), fix.get(problem.exit_code, "syntra-agent start"))]


def _reason(problem: CliError) -> str:
    """Without the next step, which stands on its own here."""
    return str(problem).partition("; ")[0]


def _engine(known: Known) -> list[Finding]:
    try:
        engine = facts.engine(known.loaded, known.environ)
    except AgentError as failed:
        reason = str(failed)
        if isinstance(failed, ClusterUnavailable | ApiRefusal):
            fix = "kubectl cluster-info"
        else:
            fix = "sudo syntra-agent doctor" if "ermission denied" in reason else "systemctl start docker"
        return [wrong("engine", reason, fix)]
    found = [findings.of_engine(engine)]
    if engine.kind == "docker" and engine.address.startswith("/"):
        found.append(findings.of_socket(engine.address, Path(engine.address).stat().st_mode, "the engine's socket"))
    if engine.root and Path(engine.root).exists():
        found.append(findings.of_disk("engine's disk", facts.disk(Path(engine.root))))
    return found


def _socket(known: Known) -> list[Finding]:
    try:
        mode = known.socket.stat().st_mode
    except FileNotFoundError:
        return [not_checked("socket", f"there is none at {known.socket}")]
    return [findings.of_socket(str(known.socket), mode, "the agent's socket")]


def _control_plane(known: Known) -> list[Finding]:
    if known.settings.control_plane is None:
        return [not_checked(name, "no control plane is configured") for name in ("control plane", "clock")]
    found = [] if known.status is None or (one := findings.of_connection(known.status)) is None else [one]
    try:
        answer = facts.control_plane(known.settings, known.environ)
    except AgentError as failed:
        fix = f"curl -v {_http(known.settings.control_plane.endpoint)}"
        return [*found, wrong("control plane", str(failed), fix), not_checked("clock", "the control plane is away")]
    way = f"through the proxy {answer.proxy}" if answer.proxy else "directly"
    found.append(ok("control plane", f"{answer.address} is reached {way}"))
    if answer.skew_secs is None:
        return [*found, not_checked("clock", "the control plane's answer has no date")]
    return [*found, findings.of_clock(answer.skew_secs)]


def _http(endpoint: str) -> str:
    return endpoint.replace("ws", "http", 1)


def _dns(known: Known) -> Finding:
    if known.status is None:
        return not_checked("dns", "the agent does not answer")
    if known.settings.networking.dns.mode == "off":
        return not_checked("dns", "networking.dns.mode is off")
    running = [one for one in rows(known.status, "services") if number(section(one, "replicas"), "running")]
    if not running:
        return not_checked("dns", "no service runs")
    service = running[0]
    name = text(service, "service_name")
    if text(section(known.status, "runtime"), "name") == "kubernetes":
        name = "kubernetes.default.svc"
    try:
        answer = facts.resolved(known.socket, service, name)
    except AgentError as failed:
        return wrong("dns", f"in a container of {text(service, 'service_name')}: {failed}", "syntra-agent status")
    if answer is None:
        return not_checked("dns", f"the image of {text(service, 'service_name')} has neither getent nor nslookup")
    return ok("dns", f"{name} resolves in a container of {text(service, 'service_name')}")


def _ports(known: Known) -> list[Finding]:
    if known.settings.networking.proxy == "off":
        return [not_checked("ports", "networking.proxy is off")]
    if known.status is not None and text(section(known.status, "runtime"), "name") == "kubernetes":
        return [not_checked("ports", "the cluster's controller has them")]
    status = known.status or {}
    proxy = None
    if known.status is not None:
        try:
            proxy = ask(known.socket, "proxy_status", {})
        except CommandFailed as failed:
            return [wrong("proxy", str(failed))]
    domains = [domain for one in rows(status, "services") for domain in texts(one, "domains")]
    found = findings.of_ports(facts.ports(known.settings.networking.proxy_listen), proxy, domains)
    return found if proxy is None else [*found, *findings.of_proxy(proxy)]


def _certificates(known: Known) -> list[Finding]:
    try:
        found = facts.certificates(known.settings)
    except PermissionError as refused:
        return [wrong("certificates", f"cannot read {refused.filename}", "sudo syntra-agent doctor")]
    return findings.of_certificates([*findings.of_own_certificate(known.status or {}), *found])


def _journal(known: Known) -> list[Finding]:
    if known.status is None:
        return [not_checked("journal", "the agent does not answer")]
    return [findings.of_journal(known.status)]


def _telemetry(known: Known) -> list[Finding]:
    if known.status is None:
        return [not_checked("telemetry", "the agent does not answer")]
    try:
        data = ask(known.socket, "telemetry_status", {})
    except CommandFailed as refused:
        if refused.code == "TELEMETRY_UNAVAILABLE":
            return [not_checked("telemetry", "it is off")]
        return [wrong("telemetry", str(refused), "syntra-agent telemetry status")]
    return findings.of_telemetry(data)


def _show(found: Sequence[Finding], color: str) -> None:
    look = look_of(sys.stdout, color)
    signs = {State.OK: look.done, State.WRONG: look.failed, State.NOT_CHECKED: look.paint("-", YELLOW)}
    width = max(len(one.check) for one in found)
    for one in found:
        detail = " ".join(one.detail.split())
        fix = f"; run `{printable(one.fix)}`" if one.fix else ""
        out(f"{signs[one.state]} {one.check:{width}}  {printable(detail)}{look.paint(fix, CYAN)}")
