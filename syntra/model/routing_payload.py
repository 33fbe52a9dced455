"""The way from the outside to a service, from and to the `networking` section: paths, headers, limits.

Every key is ours and optional. Values are checked as what they become: text between backticks in a proxy's rule, and
text in a configuration that the proxy reads as a template.
"""

from __future__ import annotations

import re

from syntra.model.domain import read_domain
from syntra.model.errors import InvalidField
from syntra.model.fields import Fields, Json
from syntra.model.spec import RateLimit, Routing

MAX_DOMAINS = 100
MAX_HEADERS = 50
MAX_PRIORITY = 1_000_000
MAX_RATE = 1_000_000

# RFC 3986 section 3.3 without percent escapes (the proxy matches the decoded path) and without quotes.
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&()*+,;=:@-]+)+")
_PATH_MAX = 255
_HEADER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,4096}")
# What frames a response or belongs to one connection (RFC 9110 section 7.6.1): to set it is to break it.
_FRAMING = frozenset(
    {
        *("connection", "content-length", "date", "host", "keep-alive", "proxy-connection"),
        *("te", "trailer", "transfer-encoding", "upgrade"),
    }
)


def read_domains(networking: Fields) -> tuple[str, ...]:
    """The domains of a `networking` section in their one spelling, in order, each once; raises InvalidField."""
    path, _ = networking.raw("domains")
    written = networking.texts("domains", limit=MAX_DOMAINS)
    return tuple(dict.fromkeys(read_domain(f"{path}[{index}]", text) for index, text in enumerate(written)))


def parse_routing(networking: Fields | None) -> Routing:
    """The routing that a `networking` section asks for; without one, the defaults. Raises InvalidField."""
    if networking is None:
        return Routing()
    path_prefix = _path_prefix(networking)
    strip_prefix = networking.boolean("strip_prefix", default=False)
    if strip_prefix and path_prefix is None:
        raise InvalidField(networking.at("strip_prefix"), "needs a path_prefix to strip")
    return Routing(
        path_prefix=path_prefix,
        strip_prefix=strip_prefix,
        priority=networking.integer("priority", low=1, high=MAX_PRIORITY) if networking.has("priority") else None,
        sticky=networking.boolean("sticky", default=False),
        response_headers=_headers(networking),
        rate_limit=_rate_limit(networking),
    )


def render_routing(routing: Routing) -> dict[str, Json]:
    """What `parse_routing` reads back; what is as by default is left out."""
    rendered: dict[str, Json] = {}
    if routing.path_prefix is not None:
        rendered["path_prefix"] = routing.path_prefix
    if routing.strip_prefix:
        rendered["strip_prefix"] = True
    if routing.priority is not None:
        rendered["priority"] = routing.priority
    if routing.sticky:
        rendered["sticky"] = True
    if routing.response_headers:
        rendered["response_headers"] = dict(routing.response_headers)
    if routing.rate_limit is not None:
        rendered["rate_limit"] = {"average": routing.rate_limit.average, "burst": routing.rate_limit.burst}
    return rendered


def is_path_prefix(text: str) -> bool:
    """Whether the text is a prefix in its one spelling: `/a/b`, without a slash at the end, `.` or `..`."""
    return (
        len(text) <= _PATH_MAX
        and _PATH.fullmatch(text) is not None
        and not any(part in (".", "..") for part in text.split("/"))
    )


def header_problem(name: str, value: str) -> str | None:
    """What keeps a response header from being set, as the end of a sentence; None when nothing does.

    The value is never repeated.
    """
    if _HEADER_NAME.fullmatch(name) is None:
        return f"{name[:60]!r} is not a header name (letters, digits, `-`, `_`; ≤ 100)"
    if name.lower() in _FRAMING:
        return f"{name} is the proxy's own to set"
    if _HEADER_VALUE.fullmatch(value) is None:
        return f"the value of {name} is not printable ASCII of at most 4096 characters"
    if "{{" in value:
        return f"the value of {name} holds `{{{{`, which the proxy would read as a template"
    return None


def _path_prefix(networking: Fields) -> str | None:
    text = networking.optional_text("path_prefix")
    if text is None or text == "/":
        return None
    prefix = text.removesuffix("/")
    if not is_path_prefix(prefix):
        raise InvalidField(
            networking.at("path_prefix"),
            f"{text[:80]!r} is not a path (like /api; letters, digits and `._~!$&()*+,;=:@-`; ≤ {_PATH_MAX})",
        )
    return prefix


def _headers(networking: Fields) -> tuple[tuple[str, str], ...]:
    headers = networking.text_map("response_headers", limit=MAX_HEADERS)
    path = networking.at("response_headers")
    seen: set[str] = set()
    for name, value in headers.items():
        problem = header_problem(name, value)
        if problem is None and name.lower() in seen:
            problem = f"{name} is given twice, in other letters"
        if problem is not None:
            raise InvalidField(path, problem)
        seen.add(name.lower())
    return tuple(sorted(headers.items()))


def _rate_limit(networking: Fields) -> RateLimit | None:
    limit = networking.section("rate_limit")
    if limit is None:
        return None
    average = limit.integer("average", low=1, high=MAX_RATE)
    return RateLimit(average=average, burst=limit.integer("burst", default=average, low=1, high=MAX_RATE))
