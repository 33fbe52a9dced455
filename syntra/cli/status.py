"""`status`: the agent, its control plane, its runtime, its services, and problems; or one service in detail."""

from __future__ import annotations

import argparse

from syntra.cli.agent_client import ask
from syntra.cli.exit_codes import ExitCode
from syntra.cli.options import add_json, socket_path
from syntra.cli.ps import service_lines
from syntra.cli.reading import Json, number, rows, section, text, texts
from syntra.cli.service_status import alert_words, is_not_well, show_service
from syntra.cli.table import duration
from syntra.cli.terminal import out, out_json, printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SERVICE, --exit-zero, --json."""
    parser.add_argument("service", metavar="SERVICE", nargs="?", help="only this one: name, project/name or id")
    parser.add_argument("--exit-zero", action="store_true", help="exit with 0 even if something is wrong")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Query the agent and print; 3 when something is wrong."""
    code = _run(args)
    return ExitCode.OK if code is ExitCode.NOT_WELL and args.exit_zero else code


def _run(args: argparse.Namespace) -> ExitCode:
    socket = socket_path(args)
    if args.service is not None:
        return show_service(socket, args.service, as_json=args.json)
    data = ask(socket, "status", {})
    code = ExitCode.NOT_WELL if _is_wrong(data) else ExitCode.OK
    if args.json:
        out_json(data)
        return code
    _line("agent", _agent(section(data, "agent")))
    _show_control_plane(section(data, "control_plane"))
    _line("runtime", _runtime(section(data, "runtime")))
    if reason := text(section(data, "runtime"), "reason", ""):
        _line("chosen", f"because {reason}")
    _show_update(section(data, "update"))
    if dropped := number(section(data, "journal"), "dropped"):
        _line("warning", f"{dropped:.0f} messages to the control plane were dropped: too many or too large to keep")
    for warning in texts(data, "warnings"):
        _line("warning", warning)
    for alert in rows(data, "alerts"):
        _line("alert", alert_words(alert))
    out()
    if section(data, "runtime").get("reachable") is False:
        out("services are not known while the runtime is not reachable")
    else:
        for line in service_lines(rows(data, "services"), with_failed=True):
            out(line)
    return code


def _is_wrong(data: Json) -> bool:
    """Whether a person should look: an alert, a warning, no engine, no control plane, or a service not as desired."""
    control_plane = section(data, "control_plane")
    is_away = bool(text(control_plane, "endpoint", "")) and text(control_plane, "state") != "ready"
    is_blind = section(data, "runtime").get("reachable") is False
    is_told = bool(rows(data, "alerts") or texts(data, "warnings"))
    return is_away or is_blind or is_told or any(map(is_not_well, rows(data, "services")))


def _line(name: str, value: str) -> None:
    out(f"{name + ':':15}{printable(value)}")


def _agent(agent: Json) -> str:
    uptime = number(agent, "uptime_seconds")
    parts = [f"{text(agent, 'agent_id')} {text(agent, 'version')}", f"pid {text(agent, 'pid')}"]
    parts += [f"up {duration(uptime)}"] if uptime is not None else []
    parts += [f"server {agent['server_id']}"] if agent.get("server_id") else []
    return ", ".join([*parts, f"data in {text(agent, 'data_dir')}"])


def _show_control_plane(control_plane: Json) -> None:
    state, endpoint = text(control_plane, "state"), text(control_plane, "endpoint", "")
    if not endpoint:
        _line("control plane", "none; this agent runs alone")
    elif state == "ready":
        _line("control plane", f"connected to {endpoint}")
    else:
        _line("control plane", f"{state}, {endpoint}")
        # A sentence with a cause and a next step is too long for parentheses.
        if detail := text(control_plane, "detail", ""):
            _line("detail", detail)
    if certificate := section(control_plane, "certificate"):
        _line("certificate", _certificate(certificate))


def _certificate(certificate: Json) -> str:
    by_hand = text(certificate, "source") == "file"
    parts = ["from a file" if by_hand else "from the control plane"]
    if (days := number(certificate, "days_left")) is not None:
        parts.append(f"valid until {text(certificate, 'not_after')} ({days:.0f} days)" if days > 0 else "expired")
    if not by_hand and certificate.get("state") != "accepted":
        parts.append(text(certificate, "state"))
    if problem := text(certificate, "problem", ""):
        parts.append(problem)
    return ", ".join(parts)


def _show_update(update: Json) -> None:
    last = section(update, "last")
    if update.get("under_way") is True:
        _line("update", "under way")
    elif last:
        _line("update", f"{text(last, 'sentence')} ({text(last, 'at')})")


def _runtime(runtime: Json) -> str:
    if runtime.get("reachable") is not True:
        # The agent repeats the reason in its warnings.
        return f"{text(runtime, 'name')}, not reachable"
    return f"{text(runtime, 'name')} {text(runtime, 'version')}, API {text(runtime, 'api_version')}, reachable"
