"""The few commands that tests run in containers, for a container that is not there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

OUTPUT_LIMIT = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended."""

    exit_code: int
    stdout: str
    stderr: str
    truncated: bool


async def run(argv: Sequence[str], env: Mapping[str, str], directory: str) -> Ended:
    """`sh -c` with echo, exit, sleep, pwd and zeros; anything else is not found."""
    if list(argv[:2]) != ["sh", "-c"]:
        argv = ["sh", "-c", " ".join(argv)]
    out, err, code = "", "", 0
    for command in argv[2].split(";"):
        words = command.split()
        target = "err" if words[-1:] == [">&2"] else "out"
        words = [word for word in words if word != ">&2"]
        said = ""
        match words:
            case ["echo", *rest]:
                said = " ".join(env.get(word[1:], "") if word.startswith("$") else word for word in rest) + "\n"
            case ["pwd"]:
                said = directory + "\n"
            case ["head", "-c", count, "/dev/zero"]:
                said = "\0" * int(count)
            case ["sleep", seconds]:
                await asyncio.sleep(float(seconds))
            case ["exit", number]:
                code = int(number)
                break
            case _:
                code = 127
                break
        if target == "err":
            err += said
        else:
            out += said
    truncated = len(out) > OUTPUT_LIMIT or len(err) > OUTPUT_LIMIT
    return Ended(exit_code=code, stdout=out[:OUTPUT_LIMIT], stderr=err[:OUTPUT_LIMIT], truncated=truncated)
