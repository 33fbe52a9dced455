"""Requests that real SDKs sent, as they came over the wire."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from syntra.telemetry.signals import Signal
from syntra.utils.frozen import frozen

DIRECTORY = Path(__file__).parents[2] / "samples" / "sdk"


@frozen
class Sample:
    """One request. `body` is decompressed."""

    name: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def signal(self) -> Signal:
        return Signal(self.path.rpartition("/")[2])

    @property
    def is_json(self) -> bool:
        return self.headers["content-type"] == "application/json"


def _read(file: Path) -> Sample:
    described: dict[str, Any] = json.loads(file.read_text())
    name = file.name.removesuffix(".headers.json")
    body = next(p for p in (file.with_name(f"{name}.json"), file.with_name(f"{name}.bin")) if p.exists()).read_bytes()
    headers = {key.lower(): value for key, value in described["headers"]}
    if headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    return Sample(name=name, path=described["path"], headers=headers, body=body)


SAMPLES = tuple(_read(file) for file in sorted(DIRECTORY.glob("*.headers.json")))
OTLP = tuple(sample for sample in SAMPLES if sample.path.startswith("/v1/"))
BY_NAME = {sample.name: sample for sample in OTLP}
