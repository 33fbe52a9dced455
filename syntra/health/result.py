"""The result of one probe, with remote text shortened for people. Pure."""

from __future__ import annotations

from syntra.utils.frozen import frozen

_MAX_BYTES = 512
_MAX_LINES = 5


@frozen
class ProbeResult:
    """The result of one probe."""

    ok: bool
    detail: str
    """A sentence, at most 512 bytes and 5 lines, without control characters."""
    status_code: int | None = None
    """The status of an HTTP response."""
    duration_secs: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", bounded(self.detail))


def bounded(text: str) -> str:
    """Shorten `text` to 512 UTF-8 bytes and 5 non-empty lines, without control characters; a cut is marked `…`."""
    lines = [
        "".join(char for char in line if char.isprintable() or char == "\t").rstrip() for line in text.splitlines()
    ]
    kept = [line for line in lines if line.strip()]
    shown = "\n".join(kept[:_MAX_LINES])
    data = shown.encode(errors="replace")
    if len(kept) <= _MAX_LINES and len(data) <= _MAX_BYTES:
        return data.decode()
    ellipsis = "…"
    return data[: _MAX_BYTES - len(ellipsis.encode())].decode(errors="ignore") + ellipsis
