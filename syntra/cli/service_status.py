"""`status SERVICE`: one service, its containers, its failed deployment and its alerts."""

from __future__ import annotations

from pathlib import Path

from syntra.cli.agent_client import ask
from syntra.cli.exit_codes import ExitCode
from syntra.cli.ps import FAILED, exit_word
from syntra.cli.reading import Json, number, rows, section, text, texts
from syntra.cli.services import find
from syntra.cli.terminal import out, out_json, printable


def show_service(socket: Path, given: str, *, as_json: bool) -> int:
    """Query the agent and print. Raises CliError when there is no such service."""
    service_id = find(socket, given)
    data = ask(socket, "status", {})
    service = next((one for one in rows(data, "services") if text(one, "service_id") == service_id), {})
    alerts = [alert for alert in rows(data, "alerts") if text(alert, "service_id") == service_id]
    if as_json:
        out_json({**service, "alerts": alerts})
        return ExitCode.OK
    _line("service", f"{text(service, 'service_name', given)} ({service_id}), project {text(service, 'project_name')}")
    if text(service, "status") == FAILED:
        _line("status", "not running: its deployment failed")
    else:
        _show_running(service)
    if failed := section(service, "failed"):
        _show_failed(failed, text(service, "service_name", given))
    for alert in alerts:
        _line("alert", alert_words(alert))
    return ExitCode.OK


def _show_running(service: Json) -> None:
    replicas, detail = section(service, "replicas"), text(service, "status_detail", "")
    status = text(service, "status") + (f" ({detail})" if detail else "")
    count = f"{text(replicas, 'running')}/{text(replicas, 'desired')} replicas"
    _line("status", f"{status}, health {text(service, 'health')}, {count}")
    _line("deployment", f"{text(service, 'deployment_id')}, image {text(service, 'image')}")
    if domains := texts(service, "domains"):
        _line("domains", " ".join(domains))
    for container in rows(service, "containers"):
        about = f"{text(container, 'status')}, health {text(container, 'health')}"
        restarts = f"{text(container, 'restart_count')} restarts"
        _line("container", f"{text(container, 'container_name')}: {about}, {restarts}")


def _show_failed(failed: Json, name: str) -> None:
    word = exit_word(failed)
    deployment = text(failed, "deployment_id")
    _line("failed", f"deployment {deployment}" + (f", {word}" if word else ""))
    if reason := text(failed, "reason", ""):
        _line("reason", reason)
    if container := text(failed, "container_name", ""):
        _line("kept", f"container {container}, for a day: syntra-agent logs {name} --deployment {deployment}")


def alert_words(alert: Json) -> str:
    """One open alert."""
    times = number(alert, "times") or 1
    often = f", {times:g} times" if times > 1 else ""
    ending = ", recovering" if alert.get("is_ending") is True else ""
    what = f"{text(alert, 'severity')} {text(alert, 'type')}, {text(alert, 'subject')}"
    code = number(alert, "exit_code")
    what += "" if code is None else f", exit {code:g}"
    return f"{what}, since {text(alert, 'since')}{often}{ending}"


def _line(name: str, value: str) -> None:
    out(f"{name + ':':15}{printable(value)}")
