"""The file of what was reached: a hint that may be missing, torn or of another kind, and never stops a start."""

from __future__ import annotations

from pathlib import Path

from syntra.agent.traffic import endpoint_file, endpoints
from syntra.agent.traffic.endpoints import ReplicaEndpoint
from syntra.model.ids import ContainerId, ServiceId
from tests.model.samples import spec


def test_what_was_written_is_read_and_any_torn_file_is_nothing(tmp_path: Path) -> None:
    web = spec(service_id=ServiceId("web"))
    one = {ContainerId(c): ReplicaEndpoint(index=n, address=f"10.0.0.{n}", port=80) for n, c in enumerate("ab", 1)}
    reach = endpoints.published({}, web, {ContainerId("a"): one[ContainerId("a")]})
    endpoint_file.write(tmp_path, endpoints.published(reach, web, {ContainerId("b"): one[ContainerId("b")]}, share=10))
    kept = endpoint_file.read(tmp_path)[ServiceId("web")]
    assert (sorted(kept.reached), sorted(kept.canary), kept.share) == (["a", "b"], ["b"], 10)
    path = tmp_path / endpoint_file.FILE_NAME
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        assert endpoint_file.read(tmp_path) == {}
    for other in (b"[]", b"1", b'{"web": []}', b'{"web": {"reached": 1}}', b"\xff\xfe"):
        path.write_bytes(other)
        assert endpoint_file.read(tmp_path) == {}


def test_a_file_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    endpoint_file.write(tmp_path / "missing", {})
    assert endpoint_file.read(tmp_path / "missing") == {}
