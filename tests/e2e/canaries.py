"""Secrets that a test plants, and where they come to light, in every form in which a value usually travels."""

from __future__ import annotations

import base64
import json
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, quote_plus

_PAUSE_SECS = 0.01


def new_canary(kind: str) -> str:
    """A value that is nowhere else, with the characters that encodings change."""
    return f"canary-{kind}/{secrets.token_hex(8)}+&=~{secrets.token_hex(4)}"


def forms(value: str) -> dict[str, bytes]:
    """The value as it may look, by the name of the form."""
    raw = value.encode()
    found = {
        "raw": raw,
        "url": quote(value, safe="").encode(),
        "url, plus": quote_plus(value).encode(),
        "json": json.dumps(value)[1:-1].encode(),
        "repr": repr(value)[1:-1].encode(),
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
        "utf-16": value.encode("utf-16-le"),
    }
    for offset in range(3):
        # The characters that depend on neighbours are cut away.
        for name, encode in (("base64", base64.b64encode), ("base64url", base64.urlsafe_b64encode)):
            encoded = encode(b"\0" * offset + raw)
            found[f"{name} {offset}"] = encoded[(offset * 8 + 5) // 6 : -4]
    return found


class Canaries:
    """Named secrets; `found_in` tells which of them shows in some bytes, and in what form."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._forms = {name: forms(value) for name, value in values.items()}

    def found_in(self, content: bytes, where: str) -> list[str]:
        """Sentences without the secret itself; empty when nothing shows."""
        return [
            f"{where} shows the {name} ({form})"
            for name, looks in self._forms.items()
            for form, look in looks.items()
            if look in content
        ]

    def found_below(self, folder: Path) -> list[str]:
        """The same for names and contents of every file below a folder."""
        found = self.found_in("\n".join(map(str, folder.rglob("*"))).encode(), f"a name below {folder.name}")
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                found += self.found_in(path.read_bytes(), str(path.relative_to(folder)))
        return found


class ProcessWatch:
    """Looks again and again at the command lines and environments of a process and all its children, in a thread."""

    def __init__(self, canaries: Canaries) -> None:
        self._canaries = canaries
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="process watch")
        self.pid = 0
        """Whom to watch; may change while it runs."""
        self.looks = 0
        self.seen: set[str] = set()
        self.found: set[str] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_PAUSE_SECS):
            if not self.pid:
                continue
            for pid in _family(self.pid):
                for name in ("cmdline", "environ"):
                    try:
                        content = Path(f"/proc/{pid}/{name}").read_bytes()
                    except OSError:
                        continue
                    self.seen.add(f"{name} of {'a child' if pid != self.pid else 'the agent'}")
                    self.found.update(self._canaries.found_in(content, f"{name} of {content[:40]!r}"))
            self.looks += 1


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        children = [Path(f"/proc/{pid}/task/{thread}/children").read_text().split() for thread in threads]
    except OSError:
        return
    for child in (int(word) for words in children for word in words):
        yield from _family(child)
