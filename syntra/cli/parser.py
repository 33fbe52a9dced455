"""The argument parser: argparse, but a usage error is one line that ends with a next step."""

from __future__ import annotations

import argparse
import os
import re
import sys

from syntra.cli import terminal
from syntra.cli.exit_codes import ExitCode

# What type checkers take for true. `typing` itself costs a short verb an eighth of its time.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_UNKNOWN = "unrecognized arguments: "
_INVALID = "argument "
_MISSING = "the following arguments are required: "
_CHOICE = re.compile(r"invalid choice: (.*) \(choose from (.*)\)", re.DOTALL)


class Help(argparse.HelpFormatter):
    """argparse's, which makes one for each argument, without `shutil` and the compression that it loads."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


class UnfilledHelp(Help, argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the description and the epilog as they are."""


class Parser(argparse.ArgumentParser):
    """Options cannot be abbreviated: an abbreviation would change its meaning when an option is added."""

    def __init__(self, **settings: object) -> None:
        settings.setdefault("formatter_class", Help)
        super().__init__(allow_abbrev=False, **settings)  # type: ignore[arg-type]  # passed on unchanged

    def shorten_usage(self) -> None:
        """Show `[options]` in the usage line in place of every optional option; the list below it has them all."""
        if self.usage is None:
            shown = [action for action in self._actions if action.required and action.help is not argparse.SUPPRESS]
            names = [" ".join([*action.option_strings[:1], _shown(action)]) for action in shown]
            names += [
                f"[{_shown(a)}]"
                for a in self._actions
                if not a.option_strings and not a.required and a.help is not argparse.SUPPRESS
            ]
            self.usage = " ".join(["%(prog)s [options]", *names])

    def error(self, message: str) -> NoReturn:
        """Print `cannot <verb> <object>: <reason>; <next step>` and exit with 2. `message` is argparse's or ours."""
        terminal.err(self._sentence(message))
        raise SystemExit(ExitCode.USAGE)

    def _sentence(self, message: str) -> str:
        subject = f"cannot run {self.prog}"
        if message.startswith(_UNKNOWN):
            message = self._unknown(message.removeprefix(_UNKNOWN))
        elif message.startswith(_INVALID):
            name, _, message = message.removeprefix(_INVALID).partition(": ")
            subject = f"cannot use {name}"
            message = f"it {message}" if message.startswith("is ") else message
            if found := _CHOICE.fullmatch(message):
                message = f"{found[1]} is not one of {found[2].replace(chr(39), '')}"
        elif message.startswith(_MISSING):
            message = f"missing argument {message.removeprefix(_MISSING)}"
        has_next_step = "; " in message or message.endswith("?")
        return f"{subject}: {message}" if has_next_step else f"{subject}: {message}; see `{self.prog} --help`"

    def _unknown(self, given: str) -> str:
        from syntra.agent.config.suggest import hint

        # Only the option's name: its value, or what follows, may be a secret.
        word = given.partition(" ")[0].partition("=")[0][:40]
        if not word.startswith("-"):
            return f"unexpected argument {word}"
        return f"unknown option {word}{hint(word, self._option_string_actions)}"


def _placeholder(action: argparse.Action) -> str:
    return action.metavar if isinstance(action.metavar, str) else action.dest.upper()


def _shown(action: argparse.Action) -> str:
    name = _placeholder(action)
    return {"+": f"{name} …", "*": f"[{name} …]"}.get(str(action.nargs), name)


def _columns() -> int:
    """As `shutil.get_terminal_size` finds it: COLUMNS, else the terminal's width, else 80."""
    given = os.environ.get("COLUMNS", "")
    if given.isdigit() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
