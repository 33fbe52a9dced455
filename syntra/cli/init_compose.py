"""Service files from a Compose file, checked as `plan` checks them. Writes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from syntra.cli.compose_file import parse_compose
from syntra.cli.compose_import import ComposeService
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.service_document import Parsed, Unreadable
from syntra.cli.service_expand import expanded
from syntra.cli.service_mistakes import every_mistake
from syntra.cli.service_payload import build_payload
from syntra.cli.service_shapes import Spellings
from syntra.cli.service_yaml import parse_yaml, plain


class _Dumper(yaml.SafeDumper):
    """Quotes text that a service file's parser would read as something else."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = None if isinstance(plain(value), str) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


class _AnyValue(Mapping[str, str]):
    """Every variable is set: what it will be is not known yet."""

    def __getitem__(self, name: str) -> str:
        return "1"

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def converted(source: Path, text: str, folder: Path) -> tuple[dict[Path, str], list[str]]:
    """The texts of the service files in `folder`, and sentences about what was not carried over. Raises CliError."""
    try:
        document = parse_compose(text)
    except Unreadable as exc:
        place = f"{source}:{exc.mark[0]}:{exc.mark[1]}" if exc.mark else str(source)
        raise CliError(f"cannot read Compose file {place}: {exc}", ExitCode.USAGE) from exc
    services = document["services"]
    assert isinstance(services, dict), "cannot happen because `parse_compose` checks it"
    project = _word(str(document.get("name") or source.resolve().parent.name)) or "default"
    files: dict[Path, str] = {}
    notes: list[str] = []
    for key in sorted(document):
        if key not in ("services", "name", "version", "volumes") and not key.startswith("x-"):
            notes.append(f"not carried over: {key}: a service file has no such key")
    for name, service in services.items():
        found = ComposeService(
            str(name),
            service if isinstance(service, dict) else {},
            document.get("volumes"),
            source.parent,
            folder,
        )
        keys = {"project": project, **found.keys}
        _leave_out_mistakes(found, keys)
        body = yaml.dump(keys, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
        file = folder / f"{_word(str(name)) or 'service'}.yml"
        files[file] = "".join(
            [
                f"# Made of service {name} of {source.name}.\n",
                *(f"# Not carried over: {_line(reason)}\n" for reason in found.dropped),
                body,
            ]
        )
        notes += [f"not carried over: {reason}" for reason in found.dropped]
    if any("${" in body for body in files.values()):
        notes.append("note: the files have variables; plan and deploy them with --expand")
    return files, notes


def _leave_out_mistakes(found: ComposeService, keys: dict[str, object]) -> None:
    """Take out what the agent would refuse, and say so."""

    def check(value: object, spellings: Spellings) -> object:
        return build_payload(value, stem=_word(found.name) or "service", spellings=spellings, env_file=lambda _: {})

    for _ in range(20):
        # As it will be read: the text of numbers is kept beside them.
        written = parse_yaml(yaml.dump(keys, Dumper=_Dumper, sort_keys=False))
        parsed, _unset = expanded(Parsed(value=written.value, spellings=written.spellings), _AnyValue())
        mistakes = every_mistake(parsed.value, parsed.spellings, check)
        wrong = {str(mistake.place[0]): mistake for mistake in mistakes if mistake.place}
        if not wrong:
            return
        for key, mistake in wrong.items():
            found.dropped.append(f"{found.name}.{key}: {mistake.reason}")
            if key == "image":
                keys[key] = "placeholder"
            else:
                keys.pop(key, None)


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-._")[:60]


def _line(text: str) -> str:
    return " ".join(text.split())
