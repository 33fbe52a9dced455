"""The words of `exec` apart, as `docker exec` takes them: options, SERVICE, and the command with options of its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence

VALUED = {"-w", "--workdir", "-e", "--env", "--timeout", "--replica", "--config", "--log-level", "--socket"}
"""Options that take a value in the next argument."""


def split_exec(arguments: Sequence[str], valued: Collection[str] = VALUED) -> tuple[list[str], list[str]]:
    """Options with SERVICE, and the command: what follows SERVICE, further options and an optional `--`."""
    at, service = 0, None
    while at < len(arguments):
        word = arguments[at]
        if word == "--":
            return list(arguments[:at]), list(arguments[at + 1 :])
        if word.startswith("-") and word != "-":
            at += 2 if _takes_next(word, valued) else 1
        elif service is None:
            service, at = word, at + 1
        else:
            break
    return list(arguments[:at]), list(arguments[at:])


def _takes_next(word: str, valued: Collection[str]) -> bool:
    """Whether the value of an option is the next argument; not in `--env=A=b` and `-eA=b`, but in `-itw`."""
    if word.startswith("--"):
        return word in valued
    at = next((at for at, letter in enumerate(word) if at and f"-{letter}" in valued), None)
    return at == len(word) - 1
