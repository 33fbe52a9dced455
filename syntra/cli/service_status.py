"""`status SERVICE`: what is desired of one service, how it is, why it is not as desired, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from syntra.cli.agent_client import ask
from syntra.cli.as_typed import as_typed, to_type
from syntra.cli.deployments import ago
from syntra.cli.exit_codes import ExitCode
from syntra.cli.failure import cleaned
from syntra.cli.look import seconds
from syntra.cli.ps import FAILED, age, count_word, exit_word, health_word
from syntra.cli.reading import UNKNOWN, Json, number, rows, section, text, texts
from syntra.cli.services import find
from syntra.cli.terminal import out, out_json, printable

_LEFT_OUT = ("deployment_id", "service_id", "service_name", "project_name", "image")


def show_service(socket: Path, given: str, *, as_json: bool) -> ExitCode:
    """Query the agent and print; NOT_WELL when it is not as desired. Raises CliError when there is no such service."""
    data = ask(socket, "describe_service", {"service_id": find(socket, given)})
    service = section(data, "service")
    code = ExitCode.NOT_WELL if is_not_well(service) or rows(data, "alerts") else ExitCode.OK
    if as_json:
        out_json(data)
        return code
    name = text(service, "service_name", given)
    _line("service", f"{name}, project {text(service, 'project_name')}")
    if text(service, "status") == FAILED:
        _line("status", "not running: its deployment failed")
    else:
        _show_running(service, data)
    if paused := section(service, "paused"):
        by, reason = text(paused, "by", ""), text(paused, "reason", "")
        _line("paused", f"since {text(paused, 'since')}{f' by {by}' if by else ''}{f': {reason}' if reason else ''}")
    if last := section(data, "last_deployment"):
        _line("last deploy", _last(last))
    if failed := section(service, "failed"):
        _show_failed(failed)
    for alert in rows(data, "alerts"):
        _line("alert", alert_words(alert))
    for reason, step in _advice(service, data, given):
        _line("problem", f"{reason}; {to_type(step)}")
    return code


def is_not_well(service: Json) -> bool:
    """Whether fewer replicas run than are desired, or one is unhealthy, or the service never ran."""
    replicas = section(service, "replicas")
    running, desired = number(replicas, "running"), number(replicas, "desired")
    is_short = running is not None and desired is not None and running < desired
    return is_short or text(service, "health") == "unhealthy" or text(service, "status") in (FAILED, "restarting")


def _show_running(service: Json, data: Json) -> None:
    detail = text(service, "status_detail", "")
    status = text(service, "status") + (f" ({detail})" if detail else "")
    _line("status", f"{status}, health {health_word(service)}, {count_word(service)} replicas")
    _line("image", text(service, "image"))
    spec = ", ".join(_settings(section(data, "spec")))
    if spec:
        _line("spec", spec)
    for url in texts(data, "routes") or texts(service, "urls"):
        _line("route", url)
    if texts(data, "routes"):
        problems = texts(data, "routes_problems")
        _line("proxy", "; ".join(problems) if problems else "works with these routes")
    if names := texts(data, "names"):
        _line("names", " ".join(names))
    answers = {number(one, "replica"): text(one, "answer") for one in rows(data, "health_answers")}
    for one in rows(service, "containers"):
        about = (
            f"{text(one, 'status')}, health {health_word(one)}, {text(one, 'restart_count')} restarts, up {age(one)}"
        )
        answer = answers.get(number(one, "replica"))
        _line(f"replica {text(one, 'replica')}", about + (f", last answer: {cleaned(answer)}" if answer else ""))


def _settings(spec: Json, prefix: str = "") -> Iterator[str]:
    """The settings in force as `name value`; the names of variables, without their values."""
    for name, value in spec.items():
        if name in _LEFT_OUT or name == "env_secrets":  # beside its variable
            continue
        if name == "env_vars" and isinstance(value, Mapping):
            secrets = section(spec, "env_secrets")
            if value:
                yield f"env {' '.join(_variable(str(key), secrets) for key in value)}"
        elif isinstance(value, Mapping):
            yield from _settings(value, "" if name in ("config", "networking") else f"{prefix}{name}.")
        elif isinstance(value, list):
            yield f"{prefix}{name} {' '.join(str(item) for item in value if not isinstance(item, dict))}".rstrip()
        else:
            yield f"{prefix}{name} {str(value).lower() if isinstance(value, bool) else value}"


def _variable(name: str, secrets: Json) -> str:
    return f"{name} (secret {text(secrets, name)})" if name in secrets else name


def _last(last: Json) -> str:
    took = number(last, "took_seconds")
    words = "succeeded" if text(last, "outcome") == "running" else "failed"
    how_long = f", took {seconds(took)}" if took is not None else ""
    by = text(last, "asked_by", "")
    asked = f", asked by {by}" if by else ""
    return f"{text(last, 'kind')} of {text(last, 'image')}, {words} {ago(last)}{how_long}{asked}"


def _show_failed(failed: Json) -> None:
    word = exit_word(failed)
    _line("failed", f"deployment {text(failed, 'deployment_id')}" + (f", {word}" if word else ""))
    if reason := text(failed, "reason", ""):
        _line("reason", cleaned(as_typed(reason)))


def _advice(service: Json, data: Json, given: str) -> Iterator[tuple[str, str]]:
    """Why the service is not as desired, and what to do."""
    if failed := section(service, "failed"):
        if text(failed, "container_name", ""):
            deployment = text(failed, "deployment_id")
            yield "its last deploy failed", f"see `syntra-agent logs {given} --deployment {deployment}`"
        else:
            yield "its last deploy failed", "mend the reason and deploy again"
    status, detail = text(service, "status"), text(service, "status_detail", "")
    if section(service, "paused"):
        yield "it is paused, and the agent restores no replica", f"end it with `syntra-agent resume {given}`"
    if status == "restarting":
        yield f"its replicas crash{f' ({detail})' if detail else ''}", f"see `syntra-agent logs {given}`"
    elif status == "stopped" and detail:
        yield "it is scaled to 0", f"start it with `syntra-agent scale {given} 1`"
    elif status == "stopped":
        yield "it was stopped", f"start it with `syntra-agent up {given}`"
    elif status == "error":
        yield "replicas are missing", f"see `syntra-agent events {given}`; the agent starts them again"
    if text(service, "health") == "unhealthy":
        yield "a health check fails", f"see its last answer above, and `syntra-agent logs {given}`"
    elif health_word(service) == "starting":
        yield "its health check has not answered yet", "wait, or see `syntra-agent events -f`"
    for problem in texts(data, "routes_problems"):
        yield f"requests may not arrive ({problem})", "see `syntra-agent proxy status`"


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
    out(f"{name + ':':15}{printable(value) if value else UNKNOWN}")
