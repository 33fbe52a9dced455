"""Cross-origin requests from browsers (the Fetch standard's CORS protocol). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

PREFLIGHT_SECS = 7200
_HEADER_NAMES = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")

Headers = tuple[tuple[str, str], ...]


class Cors:
    """Which origins may send from a browser: `*` or a list of `https://host[:port]`. None by default."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._allows_all = "*" in origins
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)

    @property
    def is_enabled(self) -> bool:
        """Whether any origin is configured."""
        return bool(self._origins)

    def response_headers(self, request: Mapping[str, str]) -> Headers:
        """What every response to this request carries, refusals too: a browser hides a response without them."""
        if not self._origins:
            return ()
        origin = request.get("origin")
        if self._allows_all:
            return () if origin is None else (("Access-Control-Allow-Origin", "*"), _EXPOSED)
        if origin is None or origin.lower() not in self._origins:
            return (("Vary", "Origin"),)
        return (("Access-Control-Allow-Origin", origin), ("Vary", "Origin"), _EXPOSED)

    def preflight_headers(self, request: Mapping[str, str]) -> Headers | None:
        """Additional headers of the answer to OPTIONS; None when this is no preflight of an allowed origin."""
        allowed = any(name == "Access-Control-Allow-Origin" for name, _ in self.response_headers(request))
        if not allowed or "access-control-request-method" not in request:
            return None
        wanted = request.get("access-control-request-headers", "")
        headers: list[tuple[str, str]] = [("Access-Control-Allow-Methods", "POST")]
        if _HEADER_NAMES.fullmatch(wanted):
            headers.append(("Access-Control-Allow-Headers", wanted))
        headers.append(("Access-Control-Max-Age", str(PREFLIGHT_SECS)))
        return tuple(headers)


_EXPOSED = ("Access-Control-Expose-Headers", "Retry-After")
