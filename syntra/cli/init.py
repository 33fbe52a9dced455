"""`init`: write a service file after three questions, or service files from a Compose file."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from syntra.agent.config.files import FileProblem, read_small
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.options import path
from syntra.cli.service_document import Unreadable
from syntra.cli.service_payload import build_payload
from syntra.cli.service_shapes import ServiceMistake
from syntra.cli.terminal import err, out, printable, write
from syntra.utils import atomic_file

SIZE_MAX = 256 * 1024
FOLDER = Path("services")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./@-]*(?::[A-Za-z0-9_][A-Za-z0-9_./@-]*)*")
_QUESTIONS = {
    "image": "image, such as ghcr.io/acme/web:1.4: ",
    "port": "port on which it listens in its container (empty: none): ",
    "domain": "domain, such as shop.example.com (empty: none): ",
}
_TEXT = """\
# A service file. `syntra-agent plan {file}` shows what a deploy would do, `syntra-agent deploy {file}` does it.
image: {image}
{port}
{domains}
replicas: 1
# project: shop                 # services of one project share a network
# env:
#   LOG_LEVEL: info
#   DATABASE_URL: {{secret: db_url}}   # store it with `syntra-agent secrets set db_url`
# health_check: /health         # a path that answers 2xx once a replica can work
# volumes:
#   - data:/var/lib/data        # kept over deploys; the agent never removes it
# memory_limit: 512m
# cpu_limit: 0.5
# strategy: rolling             # or blue_green, canary, instant
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """PATH, --from, --image, --port, --domain, --force."""
    parser.add_argument(
        "path",
        metavar="PATH",
        nargs="?",
        type=path,
        help="the file to write (default: the image's name with .yml); with --from the folder (default: services)",
    )
    parser.add_argument(
        "--from", dest="source", metavar="FILE", type=path, help="a Compose file; each of its services becomes a file"
    )
    for name in _QUESTIONS:
        parser.add_argument(f"--{name}", metavar=name.upper(), help=f"the {name}, instead of asking for it")
    parser.add_argument("--force", action="store_true", help="replace files that exist")


def run(args: argparse.Namespace) -> int:
    """Ask or convert, check the result as `plan` does, and write."""
    if args.source is not None:
        if args.image or args.port or args.domain:
            raise CliError(
                "cannot use --image, --port or --domain with --from: the Compose file has them; leave them out",
                ExitCode.USAGE,
            )
        from syntra.cli.init_compose import converted

        folder: Path = args.path or FOLDER
        files, notes = converted(args.source, _text_of(args.source), folder)
        _write(files, is_forced=args.force)
        for note in notes:
            err(note)
        out(printable(f"next: syntra-agent plan {'--expand ' if any('--expand' in n for n in notes) else ''}{folder}"))
        return ExitCode.OK
    image = _answer("image", args.image)
    port = _answer("port", args.port, image=image)
    domain = _answer("domain", args.domain, image=image, port=port)
    file: Path = args.path or Path(f"{_name_of(image)}.yml")
    text = _TEXT.format(
        file=file,
        image=_quoted(image),
        port=f"port: {port}"
        if port
        else "# port: 8080                  # the port on which it listens in its container",
        domains=f"domains: [{_quoted(domain)}]" if domain else "# domains: [shop.example.com]   # routed by the proxy",
    )
    _write({file: text}, is_forced=args.force)
    out(printable(f"next: syntra-agent plan {file}"))
    return ExitCode.OK


def _answer(name: str, given: str | None, **known: str) -> str:
    """What was given or is answered, once it was checked; a person is asked again."""
    if given is not None:
        _check({**known, name: given.strip()}, name)
        return given.strip()
    while True:
        is_asked = sys.stdin.isatty()
        if is_asked:
            write(sys.stdout, _QUESTIONS[name])
        line = sys.stdin.readline()
        if not line and name == "image":
            raise CliError("cannot write a service file: there is no image; give --image", ExitCode.USAGE)
        try:
            _check({**known, name: line.strip()}, name)
        except CliError as mistake:
            if not is_asked or not line:
                raise
            err(str(mistake))
        else:
            return line.strip()


def _check(answers: Mapping[str, str], name: str) -> None:
    port, domain = answers.get("port", ""), answers.get("domain", "")
    document: dict[str, object] = {"image": answers["image"]}
    if port:
        document["port"] = int(port) if port.isascii() and port.isdigit() and len(port) < 10 else port
    if domain:
        document["domains"] = [domain]
    try:
        build_payload(document, stem="web", spellings={}, env_file=lambda _: {})
    except ServiceMistake as mistake:
        raise CliError(
            f"cannot use {name} {answers[name][:80]}: {mistake.reason}; give another one", ExitCode.USAGE
        ) from mistake


def _name_of(image: str) -> str:
    last = image.rpartition("/")[2].partition("@")[0].partition(":")[0]
    return re.sub(r"[^A-Za-z0-9_.-]", "-", last) or "service"


def _quoted(text: str) -> str:
    return text if _PLAIN.fullmatch(text) and not text.replace(".", "").isdigit() else f"'{text}'"


def _text_of(source: Path) -> str:
    try:
        return read_small(source, limit=SIZE_MAX).data.decode()
    except FileProblem as exc:
        raise CliError(f"cannot read Compose file {source}: {exc}; check the path", ExitCode.USAGE) from exc
    except UnicodeDecodeError as exc:
        raise CliError(
            f"cannot read Compose file {source}: it is not UTF-8 text; save it as UTF-8", ExitCode.USAGE
        ) from exc
    except Unreadable as exc:
        raise CliError(f"cannot read Compose file {source}: {exc}", ExitCode.USAGE) from exc


def _write(files: Mapping[Path, str], *, is_forced: bool) -> None:
    existing = [str(file) for file in files if file.exists() or file.is_symlink()]
    if existing and not is_forced:
        raise CliError(
            f"cannot write {', '.join(existing)}: it exists; give another PATH, or --force to replace it",
            ExitCode.USAGE,
        )
    for file, text in files.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise CliError(f"cannot create folder {file.parent}: {exc.strerror}; check the path") from exc
        atomic_file.write(file, text.encode(), mode=0o644)
        out(printable(f"wrote {file}"))
