"""The argument parser: argparse, but a usage error is one line that ends with a next step."""

from __future__ import annotations

import argparse
from typing import NoReturn

from syntra.cli import terminal
from syntra.cli.exit_codes import ExitCode

_UNKNOWN = "unrecognized arguments: "
_INVALID = "argument "


class Parser(argparse.ArgumentParser):
    """Options cannot be abbreviated: an abbreviation would change its meaning when an option is added."""

    def __init__(self, **settings: object) -> None:
        super().__init__(allow_abbrev=False, **settings)  # type: ignore[arg-type]  # passed on unchanged

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
        has_next_step = "; " in message or message.endswith("?")
        return f"{subject}: {message}" if has_next_step else f"{subject}: {message}; see `{self.prog} --help`"

    def _unknown(self, given: str) -> str:
        from syntra.agent.config.suggest import hint

        # Only the option's name: its value, or what follows, may be a secret.
        word = given.partition(" ")[0].partition("=")[0][:40]
        if not word.startswith("-"):
            return f"unexpected argument {word}"
        return f"unknown option {word}{hint(word, self._option_string_actions)}"
