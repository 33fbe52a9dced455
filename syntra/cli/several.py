"""Runs a verb for several services one after another, and reports all of them at the end.

Services are independent, so a failure of one does not keep the next from being tried, as with `kubectl apply -f DIR`.
Only when the agent or its engine cannot be reached is the rest left out: it would fail alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from syntra.cli import table
from syntra.cli.as_typed import as_typed
from syntra.cli.exit_codes import CliError, ExitCode, of_error
from syntra.cli.service_sources import Source
from syntra.cli.terminal import err, out, out_json, printable
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

NOT_TRIED = "not tried"
# From the best to the worst.
_RANKS = (
    ExitCode.OK,
    ExitCode.TEMPORARY,
    ExitCode.FAILED,
    ExitCode.USAGE,
    ExitCode.CONFIGURATION,
    ExitCode.REFUSED,
    ExitCode.UNAVAILABLE,
)


@frozen
class Result:
    """How one service ended: a word for people, and the exit code."""

    word: str
    code: ExitCode


def run_each(
    sources: Sequence[Source], one: Callable[[Source], Result], *, as_json: bool, is_reported: bool = True
) -> ExitCode:
    """The worst exit code. There is no report of a single service, nor without `is_reported`."""
    if len(sources) == 1:
        return one(sources[0]).code
    results: list[Result] = []
    for source in sources:
        if results and results[-1].code is ExitCode.UNAVAILABLE:
            results += [Result(word=NOT_TRIED, code=ExitCode.UNAVAILABLE)] * (len(sources) - len(results))
            break
        results.append(_tried(source, one))
    if as_json:
        out_json({"results": [_shown(source, result) for source, result in zip(sources, results, strict=True)]})
    elif is_reported:
        rows = [(source.name, str(source.file), result.word) for source, result in zip(sources, results, strict=True)]
        out()
        table.show(("service", "file", "result"), rows, empty="")
        if any(result.word == NOT_TRIED for result in results):
            err("the rest was not tried, because the agent or its engine cannot be reached")
    return max((result.code for result in results), key=_rank)


def _tried(source: Source, one: Callable[[Source], Result]) -> Result:
    try:
        return one(source)
    except CliError as exc:
        err(as_typed(str(exc)))
        return Result(word="failed", code=exc.exit_code)
    except AgentError as exc:
        err(printable(str(exc)))
        return Result(word="failed", code=of_error(exc.code))


def _rank(code: ExitCode) -> int:
    return _RANKS.index(code) if code in _RANKS else 2


def _shown(source: Source, result: Result) -> dict[str, object]:
    return {
        "service_id": source.payload["service_id"],
        "service_name": source.name,
        "file": str(source.file),
        "result": result.word,
        "exit_code": int(result.code),
    }
