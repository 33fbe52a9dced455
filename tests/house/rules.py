"""The house rules as functions from source text to findings; `test_repository` applies them, `test_rules` tests them.

A finding is one line of text, `line: what is wrong`. An empty list means that the source keeps the rule.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator

IMPURE_MODULES = (
    *("asyncio", "http", "os", "pathlib", "random", "secrets", "selectors", "shutil", "signal", "socket", "sqlite3"),
    *("ssl", "subprocess", "tempfile", "threading", "time", "urllib.request", "uuid"),
)
"""What a pure module may not import: everything that talks to the world, waits, or gives another answer next time."""

CLOCK_CALLS = frozenset({"now", "utcnow", "today"})
MODULE_NAMES_THAT_SAY_NOTHING = frozenset({"common", "core", "helpers", "manager", "misc", "util", "utils"})
TASK_GROUP_ATTRIBUTES = frozenset({"_group", "group", "tasks"})
UNOWNED_CALLS = frozenset({"ensure_future", "run_coroutine_threadsafe"})
MODULE_LINES = 400
SUMMARY_LENGTH = 160


def imported_modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every absolute import; `from a import b` yields both `a` and `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def impurities(source: str) -> list[str]:
    """Input, output, clocks and randomness in a module that is meant to compute only."""
    tree = ast.parse(source)
    found = []
    for line, name in imported_modules(tree):
        if any(name == impure or name.startswith(impure + ".") for impure in IMPURE_MODULES):
            found.append(f"{line}: imports {name}")
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in {"open", "input", "print"}:
            found.append(f"{node.lineno}: calls {node.func.id}()")
        if isinstance(node.func, ast.Attribute) and node.func.attr in CLOCK_CALLS:
            base = ast.unparse(node.func.value)
            if base.rpartition(".")[2] in {"date", "datetime"}:
                found.append(f"{node.lineno}: reads the clock with {base}.{node.func.attr}()")
    return found


def terminal_output(source: str) -> list[str]:
    """`print` and `sys.stdout`, which belong to the command line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            found.append(f"{node.lineno}: prints")
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"sys.stdout", "sys.__stdout__"}:
            found.append(f"{node.lineno}: uses {ast.unparse(node)}")
        if isinstance(node, ast.ImportFrom) and node.module == "sys" and any(a.name == "stdout" for a in node.names):
            found.append(f"{node.lineno}: imports sys.stdout")
    return found


def unowned_tasks(source: str) -> list[str]:
    """Tasks that no task group owns, and `wait_for`, which hides one."""
    tree = ast.parse(source)
    groups = _task_group_names(tree)
    from_asyncio = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "asyncio"
        for alias in node.names
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and from_asyncio.get(node.id) in UNOWNED_CALLS | {"create_task", "wait_for"}:
            found.append(f"{node.lineno}: uses asyncio.{from_asyncio[node.id]}")
        if not isinstance(node, ast.Attribute):
            continue
        base, name = node.value, node.attr
        if name in UNOWNED_CALLS or (name == "wait_for" and ast.unparse(base) == "asyncio"):
            found.append(f"{node.lineno}: uses {ast.unparse(node)}")
        elif name == "create_task":
            named = isinstance(base, ast.Name) and (base.id in groups or base.id in TASK_GROUP_ATTRIBUTES)
            held = isinstance(base, ast.Attribute) and base.attr in TASK_GROUP_ATTRIBUTES
            if not (named or held):
                found.append(f"{node.lineno}: {ast.unparse(node)} is not a task group's")
    return found


def _task_group_names(tree: ast.AST) -> set[str]:
    """Names bound by `async with asyncio.TaskGroup() as NAME`, and parameters annotated as a task group."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncWith):
            for item in node.items:
                opens = ast.unparse(item.context_expr) in {"asyncio.TaskGroup()", "TaskGroup()"}
                if opens and isinstance(item.optional_vars, ast.Name):
                    names.add(item.optional_vars.id)
        if isinstance(node, ast.arg) and node.annotation is not None:
            annotation = ast.unparse(node.annotation).strip("'\"")
            if annotation in {"asyncio.TaskGroup", "TaskGroup"}:
                names.add(node.arg)
    return names


def swallowed_cancellations(source: str) -> list[str]:
    """Handlers that can catch CancelledError and do not always raise it again.

    An exception group is left alone: a task group raises cancellation by itself and never inside a group.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler) and _swallows_cancellation(node):
            found.append(f"{node.lineno}: catches {_written(node.type)} without raising it again on every path")
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"suppress", "contextlib.suppress"}:
            for argument in node.args:
                if _catches_cancellation(argument):
                    found.append(f"{node.lineno}: suppresses {ast.unparse(argument)}")
    return found


def _swallows_cancellation(handler: ast.ExceptHandler) -> bool:
    return _catches_cancellation(handler.type) and not _always_reraises(handler.body, handler.name)


def _written(kind: ast.expr | None) -> str:
    return ast.unparse(kind) if kind is not None else "everything"


def _catches_cancellation(kind: ast.expr | None) -> bool:
    if kind is None:
        return True
    if isinstance(kind, ast.Tuple):
        return any(_catches_cancellation(element) for element in kind.elts)
    return ast.unparse(kind).rpartition(".")[2] in {"BaseException", "CancelledError"}


def _always_reraises(body: list[ast.stmt], caught: str | None) -> bool:
    """Whether every path through `body` ends in `raise` or `raise <the caught name>`."""
    if any(isinstance(node, ast.Return) for statement in body for node in ast.walk(statement)):
        return False
    last = body[-1]
    match last:
        case ast.Raise(exc=None):
            return True
        case ast.Raise(exc=ast.Name(id=name)):
            return name == caught
        case ast.If(body=then, orelse=otherwise):
            return bool(otherwise) and _always_reraises(then, caught) and _always_reraises(otherwise, caught)
        case ast.With(body=inner) | ast.AsyncWith(body=inner):
            return _always_reraises(inner, caught)
        case ast.Try(body=inner, handlers=[], finalbody=final):
            return _always_reraises(inner, caught) or _always_reraises(final, caught)
        case ast.Try(finalbody=final) if final:
            return _always_reraises(final, caught)
    return False


def unexplained_broad_excepts(source: str) -> list[str]:
    """`except Exception` without a comment on its line or the line before; a bare `noqa` explains nothing."""
    comments = {line: text for line, text in comments_of(source) if _words(text)}
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler) and node.type is not None:
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            broad = any(ast.unparse(kind) in {"Exception", "builtins.Exception"} for kind in kinds)
            if broad and not {node.lineno, node.lineno - 1} & comments.keys():
                found.append(f"{node.lineno}: except Exception without the reason beside it")
    return found


def _words(comment: str) -> str:
    return re.sub(r"#\s*(noqa|type:\s*ignore)\S*(\s*:?\s*[A-Z]+\d+,?)*|[\s#:–-]", "", comment)


def codeless_ignores(source: str) -> list[str]:
    """`type: ignore` without the error's code, `noqa` without the rule's."""
    found = []
    for line, text in comments_of(source):
        if re.search(r"type:\s*ignore(?!\[[a-z])", text):
            found.append(f"{line}: type: ignore without a code")
        if re.search(r"\bnoqa\b(?!:\s*[A-Z]+\d+)", text):
            found.append(f"{line}: noqa without a code")
    return found


def comments_of(source: str) -> list[tuple[int, str]]:
    """Line and text of every comment; what looks like one inside a string is none."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]


def shape(path: str, source: str) -> list[str]:
    """A module's name, docstring and length. `path` is relative to the checkout, with forward slashes."""
    found = []
    *folders, file = path.split("/")
    name = file.removesuffix(".py")
    if name in MODULE_NAMES_THAT_SAY_NOTHING:
        found.append(f"1: {file} names no concept")
    lines = source.count("\n")
    if lines > MODULE_LINES:
        found.append(f"{lines}: more than {MODULE_LINES} lines")
    tree = ast.parse(source)
    docstring = ast.get_docstring(tree)
    if docstring is None:
        found.append("1: no module docstring")
    elif len(summary(docstring)) > SUMMARY_LENGTH:
        found.append(f"1: the docstring's first sentence is longer than {SUMMARY_LENGTH} characters")
    if name == "__init__":
        for node in tree.body[1 if docstring is not None else 0 :]:
            is_version = len(folders) == 1 and isinstance(node, ast.Assign) and "__version__" in ast.unparse(node)
            if not is_version:
                found.append(f"{node.lineno}: a package's __init__ holds its docstring and nothing else")
    return found


def summary(docstring: str) -> str:
    """The first sentence, or the first paragraph when that ends sooner."""
    paragraph = " ".join(docstring.strip().split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s+(?=[A-Z`\"'(])", paragraph)[0]


PLACES = (
    # Assembled from parts so that this file keeps its own rule.
    ("a path of one machine", re.compile(r"(?<![\w.$}~-])/(?:wo" + r"rk|ro" + r"ot|tmp/br" + r"ief)/")),
    (
        "a package index's host",
        re.compile("|".join(re.escape(a + b) for a, b in (
            ("pypi", ".org"), ("pythonhosted", ".org"), ("npmjs", ".org"), ("proxy.golang", ".org"),
            ("deb.debian", ".org"), ("archive.ubuntu", ".com"), ("crates", ".io"),
        ))),
    ),
)  # fmt: skip


def places(text: str) -> list[str]:
    """Machine paths and package index hosts: the repository speaks of the product, not of where it was written."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        for what, pattern in PLACES:
            if match := pattern.search(line):
                found.append(f"{number}: {what}: {match.group()}")
    return found


PLAIN_WORDS = {
    r"what serves|\bserves (already|again|on)\b": "running",
    r"\bproven\b": "healthy",
    r"\b(unwinds?|unwound)\b": "roll back",
    r"\b(goes|go|going) on with\b": "continue, resume",
    r"by another hand|another hand": "outside the agent",
    r"\bwhoever\b": "anyone who, the client",
    r"\b(nobody|somebody)\b": "name the noun: no client, another process",
    r"\bturn(s|ed)? (un)?healthy": "become unhealthy",
    r"\bwant of memory\b": "out of memory",
    r"\bis to be run\b|\bwhat is to\b": "active voice",
    r"\bis there twice\b": "duplicate",
    r"\bsay one of\b": "use one of",
    r"\bstood in for\b|\bstands in for\b": "replaces, is used instead",
    r"\b(could|can)not be looked (at|after)\b|\bcould not be (kept|looked)\b": "cannot check, cannot store",
    r"\b(a|two|of) texts?\b in quotes": "quoted string",
}
"""Phrases that readers stumble over, as patterns, and the words of the field to use instead."""

PLAIN_PROSE = {
    r"\blanes?\b": "queue",
    r"\bsweep(s|ing)?\b": "garbage collection",
    r"\b(go|goes|going) on\b": "continue, resume",
    r"\bunwinding\b": "rolling back",
    r"\banew\b": "again",
    r"\bof ours\b": "the agent's",
    r"\bthose (that|who)\b": "name the noun",
    r"\bwhom\b": "name the noun",
    r"\b(is|are) to be\b": "active voice",
    r"\b(is|are|was|were) told\b|\bhears?\b": "receives, is notified",
    r"\bleads? to\b": "routes to, resolves to",
    r"\ball the same\b": "anyway, or nothing",
    r"\b(is|are) given back\b": "returns",
    r"\bfor the sake\b|\b\w+'s? sake\b": "for",
    r"\ba look\b|\blook(s|ed)? at\b": "pass, inspect, list",
}
"""More phrases, which only docstrings and comments must not use."""


def hard_words(text: str) -> list[str]:
    """Phrases of `PLAIN_WORDS` in a document or a message."""
    return [
        f"{number}: {match.group()!r}; write: {better}"
        for number, line in enumerate(text.splitlines(), 1)
        for pattern, better in PLAIN_WORDS.items()
        for match in re.finditer(pattern, line, re.IGNORECASE)
    ]


def hard_messages(source: str) -> list[str]:
    """Phrases of `PLAIN_WORDS` in the strings of a module: messages and help texts, not docstrings."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        f"{node.lineno}: {finding.partition(': ')[2]}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
        for finding in hard_words(node.value)
    ]


def hard_prose(source: str) -> list[str]:
    """Phrases of `PLAIN_WORDS` and `PLAIN_PROSE` in the docstrings and comments of a module."""
    prose = [
        (node.value.lineno, node.value.value)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    return [
        f"{start + offset}: {match.group()!r}; write: {better}"
        for start, text in sorted([*prose, *comments_of(source)])
        for offset, line in enumerate(text.splitlines())
        for pattern, better in {**PLAIN_WORDS, **PLAIN_PROSE}.items()
        for match in re.finditer(pattern, line, re.IGNORECASE)
    ]


def changelog_disagreements(changelog: str, version: str) -> list[str]:
    """What a changelog says against the package's version.

    Headings are `## Unreleased` or `## 1.2.3` (brackets and a date allowed). A released version on top is the
    package's. Below `Unreleased`, the newest released version is the package's or an older one.
    """
    headings = re.findall(r"^## +\[?(Unreleased|\d+\.\d+\.\d+\S*?)\]?(?: .*)?$", changelog, re.MULTILINE)
    if not headings:
        return ["1: no heading of the form `## Unreleased` or `## 1.2.3`"]
    if headings[0] != "Unreleased":
        return [] if headings[0] == version else [f"1: newest version {headings[0]}, the package says {version}"]
    released = headings[1:]
    if released and _numbers(released[0]) > _numbers(version):
        return [f"1: version {released[0]} is out, the package says {version}"]
    return []


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
