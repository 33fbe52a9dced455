"""Each house rule catches what it is for, and leaves alone what it should."""

# ruff: noqa: E501 - a snippet stays on the line of its rule

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable

import pytest

from tests.house import rules

Rule = Callable[[str], list[str]]

CAUGHT: list[tuple[Rule, str]] = [
    (rules.impurities, "import asyncio"),
    (rules.impurities, "import os.path"),
    (rules.impurities, "import urllib.request"),
    (rules.impurities, "from urllib import request"),
    (rules.impurities, "from time import monotonic"),
    (rules.impurities, "def f():\n    import random"),
    (rules.impurities, "def f():\n    return open('x')"),
    (rules.impurities, "import datetime\nx = datetime.datetime.now()"),
    (rules.impurities, "from datetime import date\nx = date.today()"),
    (rules.terminal_output, "print('x')"),
    (rules.terminal_output, "import sys\nsys.stdout.write('x')"),
    (rules.terminal_output, "from sys import stdout"),
    (rules.unowned_tasks, "import asyncio\nasyncio.create_task(f())"),
    (rules.unowned_tasks, "from asyncio import create_task\ncreate_task(f())"),
    (rules.unowned_tasks, "from asyncio import create_task as go\ngo(f())"),
    (rules.unowned_tasks, "asyncio.get_running_loop().create_task(f())"),
    (rules.unowned_tasks, "loop.create_task(f())"),
    (rules.unowned_tasks, "start = asyncio.create_task"),
    (rules.unowned_tasks, "asyncio.ensure_future(f())"),
    (rules.unowned_tasks, "asyncio.run_coroutine_threadsafe(f(), loop)"),
    (rules.unowned_tasks, "asyncio.wait_for(f(), 1)"),
    (rules.unowned_tasks, "from asyncio import wait_for\nwait_for(f(), 1)"),
    (rules.swallowed_cancellations, "try:\n    f()\nexcept CancelledError:\n    pass"),
    (rules.swallowed_cancellations, "try:\n    f()\nexcept asyncio.CancelledError:\n    return_ = 1"),
    (rules.swallowed_cancellations, "try:\n    f()\nexcept (OSError, asyncio.CancelledError):\n    g()"),
    (rules.swallowed_cancellations, "try:\n    f()\nexcept:\n    g()"),
    (rules.swallowed_cancellations, "try:\n    f()\nexcept BaseException as error:\n    raise ValueError from error"),
    (rules.swallowed_cancellations, "try:\n    f()\nexcept BaseException:\n    if g:\n        raise"),
    (rules.swallowed_cancellations, "def h():\n    try:\n        f()\n    except BaseException:\n        if g: return\n        raise"),
    (rules.swallowed_cancellations, "try:\n    f()\nexcept* asyncio.CancelledError:\n    pass"),
    (rules.swallowed_cancellations, "with contextlib.suppress(asyncio.CancelledError):\n    f()"),
    (rules.unexplained_broad_excepts, "try:\n    f()\nexcept Exception:\n    g()"),
    (rules.unexplained_broad_excepts, "try:\n    f()\nexcept (OSError, Exception):  # noqa: BLE001\n    g()"),
    (rules.codeless_ignores, "x = f()  # type: ignore"),
    (rules.codeless_ignores, "x = f()  # type:ignore # because"),
    (rules.codeless_ignores, "x = f()  # noqa"),
    (rules.codeless_ignores, "x = f()  # noqa - because"),
    (rules.places, "see /wo" + "rk/main/x"),
    (rules.places, "'/ro" + "ot/.cache/x'"),
    (rules.places, "/tmp/br" + "ief/common.md"),
    (rules.places, "https://pypi" + ".org/simple"),
    (rules.hard_words, "The deploy goes on with the next step."),
    (rules.hard_words, "Whoever asks gets an answer."),
    (rules.hard_messages, "log.error('replica turned unhealthy')"),
    (rules.hard_messages, "raise ValueError(f'key {key} is there twice')"),
    (rules.hard_prose, "def f():\n    \"\"\"Put a job into its lane.\"\"\""),
    (rules.hard_prose, "x = 1\n# Nobody reads this.\n"),
    (rules.hard_prose, "x = 1\n\"\"\"Those that wait.\"\"\""),
]  # fmt: skip

LEFT_ALONE: list[tuple[Rule, str]] = [
    (rules.impurities, "import json, re, urllib.parse\nfrom datetime import datetime"),
    (rules.impurities, "from syntra.runtime.docker import http\nfrom . import http as h"),
    (rules.impurities, "def f(clock):\n    return clock.now()"),
    (rules.terminal_output, "import sys\nsys.stderr.write('x')\nx.print()"),
    (rules.unowned_tasks, "async def f():\n    async with asyncio.TaskGroup() as all_of_it:\n        all_of_it.create_task(g())"),
    (rules.unowned_tasks, "def f(crew: asyncio.TaskGroup):\n    crew.create_task(g())"),
    (rules.unowned_tasks, "self._group.create_task(g())\nself.tasks.create_task(g())"),
    (rules.unowned_tasks, "await condition.wait_for(ready)"),
    (rules.swallowed_cancellations, "try:\n    f()\nexcept asyncio.CancelledError:\n    g()\n    raise"),
    (rules.swallowed_cancellations, "try:\n    f()\nexcept BaseException as error:\n    g(error)\n    raise error"),
    (rules.swallowed_cancellations, "try:\n    f()\nexcept BaseException:\n    if g:\n        raise\n    else:\n        raise"),
    (rules.swallowed_cancellations, "try:\n    f()\nexcept Exception:\n    pass"),
    (rules.swallowed_cancellations, "try:\n    f()\nexcept BaseExceptionGroup as group:\n    raise group.exceptions[0] from None"),
    (rules.swallowed_cancellations, "with contextlib.suppress(OSError):\n    f()"),
    (rules.unexplained_broad_excepts, "try:\n    f()\nexcept Exception:  # a plugin's code may raise anything\n    g()"),
    (rules.unexplained_broad_excepts, "try:\n    f()\n# a plugin's code may raise anything\nexcept Exception:  # noqa: BLE001\n    g()"),
    (rules.unexplained_broad_excepts, "try:\n    f()\nexcept Exception:  # noqa: BLE001 - the supervisor's edge\n    g()"),
    (rules.unexplained_broad_excepts, "try:\n    f()\nexcept OSError:\n    g()"),
    (rules.codeless_ignores, "x = f()  # type: ignore[attr-defined]  # because\ny = g()  # noqa: BLE001 - because"),
    (rules.codeless_ignores, "x = '# type: ignore'"),
    (rules.hard_words, "The deploy continues in the background."),
    (rules.hard_messages, "def f():\n    \"\"\"Whoever asks.\"\"\"\n    return 'replica became unhealthy'"),
    (rules.hard_prose, "def f():\n    \"\"\"Add a job to its queue.\"\"\"\n    return 'lane'  # a word of the protocol"),
    (rules.places, "/var/lib/syntra-agent/ and https://registry.example.org/v2/ and homework/x and docker.io/library/x"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "source"), CAUGHT)
def test_a_violation_is_found(rule: Rule, source: str) -> None:
    assert rule(source) != []


@pytest.mark.parametrize(("rule", "source"), LEFT_ALONE)
def test_what_keeps_the_rule_is_left_alone(rule: Rule, source: str) -> None:
    assert rule(source) == []


def test_a_finding_names_the_line() -> None:
    assert rules.terminal_output("x = 1\n\nprint(x)\n") == ["3: prints"]
    assert rules.hard_prose('def f():\n    """Fine.\n\n    Whoever asks."""\n')[0].startswith("4: ")


@pytest.mark.parametrize(
    ("path", "source", "said"),
    [
        ("syntra/model/helpers.py", '"""Fine."""\n', "names no concept"),
        ("syntra/model/spec.py", "x = 1\n", "no module docstring"),
        ("syntra/model/spec.py", f'"""{"very " * 40}long."""\n', "longer than"),
        ("syntra/model/spec.py", '"""Fine."""\n' + "x = 1\n" * 400, "more than 400 lines"),
        ("syntra/model/__init__.py", '"""Fine."""\nfrom x import y\n', "docstring and nothing else"),
        ("syntra/model/__init__.py", '"""Fine."""\n__version__ = "1"\n', "docstring and nothing else"),
        ("syntra/__init__.py", '"""Fine."""\nVERSION = "1"\n', "docstring and nothing else"),
    ],
)
def test_a_badly_shaped_module_is_found(path: str, source: str, said: str) -> None:
    assert [finding for finding in rules.shape(path, source) if said in finding]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("syntra/utils/__init__.py", '"""A package may be called utils."""\n'),
        ("syntra/__init__.py", '"""The package."""\n\n__version__ = "1.0.0"\n'),
        ("syntra/model/spec.py", '"""Short. ' + "More text follows. " * 20 + '"""\n'),
    ],
)
def test_a_well_shaped_module_is_left_alone(path: str, source: str) -> None:
    assert rules.shape(path, source) == []


@pytest.mark.parametrize(
    ("headings", "agrees"),
    [
        ("## Unreleased", True),
        ("## [0.2.0] - 2026-01-02\n## [0.1.0] - 2026-01-01", True),
        ("## Unreleased\n## 0.2.0", True),
        ("## Unreleased\n## 0.1.9", True),
        ("## Unreleased\n## 0.10.0", False),
        ("## 0.1.0", False),
        ("## 0.3.0", False),
        ("## Someday", False),
    ],
)
def test_a_changelog_is_held_against_the_version(headings: str, agrees: bool) -> None:
    changelog = textwrap.dedent("# Changes\n\n") + headings + "\n"
    assert (rules.changelog_disagreements(changelog, "0.2.0") == []) is agrees


def test_every_rule_over_source_text_is_tried_both_ways() -> None:
    takes_one_text = {
        name
        for name, rule in inspect.getmembers(rules, inspect.isfunction)
        if not name.startswith("_")
        and len(inspect.signature(rule).parameters) == 1
        and inspect.signature(rule).return_annotation == "list[str]"
    }
    assert takes_one_text == {rule.__name__ for rule, _ in CAUGHT} == {rule.__name__ for rule, _ in LEFT_ALONE}
