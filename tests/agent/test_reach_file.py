"""The file of what was reached: a hint that may be missing, torn or of another kind, and never stops a start."""

from __future__ import annotations

from pathlib import Path

from syntra.agent import reach_file, reachable
from syntra.agent.reachable import Reached
from syntra.model.ids import ContainerId, ServiceId
from tests.model.samples import spec


def test_what_was_written_is_read_and_any_torn_file_is_nothing(tmp_path: Path) -> None:
    web = spec(service_id=ServiceId("web"))
    one = {ContainerId(c): Reached(index=n, address=f"10.0.0.{n}", port=80) for n, c in enumerate("ab", 1)}
    reach = reachable.published({}, web, {ContainerId("a"): one[ContainerId("a")]})
    reach_file.write(tmp_path, reachable.published(reach, web, {ContainerId("b"): one[ContainerId("b")]}, share=10))
    kept = reach_file.read(tmp_path)[ServiceId("web")]
    assert (sorted(kept.reached), sorted(kept.canary), kept.share) == (["a", "b"], ["b"], 10)
    path = tmp_path / reach_file.FILE_NAME
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        assert reach_file.read(tmp_path) == {}
    for other in (b"[]", b"1", b'{"web": []}', b'{"web": {"reached": 1}}', b"\xff\xfe"):
        path.write_bytes(other)
        assert reach_file.read(tmp_path) == {}


def test_a_file_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    reach_file.write(tmp_path / "missing", {})
    assert reach_file.read(tmp_path / "missing") == {}
