"""docs/protocol.md says what the sources do: every error code, and the limits of messages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from syntra.agent.api import local_socket
from syntra.agent.operations.job import Interruption
from syntra.cli import agent_client
from syntra.connection import codec
from syntra.connection.enrolment import CERT_ENROLMENT
from syntra.connection.messages import BINARY_TELEMETRY, TELEMETRY_ACK
from syntra.connection.settings import ConnectionSettings
from syntra.controlplane.settings import Limits
from syntra.controlplane.telemetry import lines, otlp_parts
from syntra.controlplane.telemetry.blocks import Kind
from syntra.controlplane.telemetry.intake import FEATURES
from tests.house.error_codes import codes_below, codes_in

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "syntra"
DOCUMENT = (ROOT / "docs" / "protocol.md").read_text()

NOT_ANSWERED = (
    # Errors of these never reach a peer as they are: `translated` gives those of the engine's client a code of the
    # contract, and the others end up in the log or in `status`.
    SOURCES / "connection" / "errors.py",
    SOURCES / "networking" / "dns",
    SOURCES / "runtime" / "docker" / "errors.py",
    SOURCES / "utils",
    SOURCES / "cli",
    SOURCES / "controlplane",
    SOURCES / "telemetry",
)


def section(title: str) -> str:
    """The text below a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert found, f"docs/protocol.md has no section {title!r}"
    return found[1]


def documented(title: str) -> list[str]:
    return re.findall(r"`([A-Z][A-Z0-9_]+)`", section(title))


def test_the_document_has_every_error_code_of_the_agent_once_and_no_other() -> None:
    used = codes_below(SOURCES, without=NOT_ANSWERED)
    # The client of the engine: what `translated` passes on, and what it finds out itself.
    used |= {"NETWORK_GONE", "PULL_FAILED", "EXEC_TIMEOUT", "CONTAINER_NOT_FOUND", "CONTAINER_NOT_RUNNING"}
    # A stopping agent parks its operations; they end after the next start.
    used |= {cause.name for cause in Interruption} - {Interruption.SHUTDOWN.name}
    assert sorted(documented("Error codes")) == sorted(used)


def test_the_document_has_every_error_code_of_the_control_plane_once_and_no_other() -> None:
    used = codes_below(SOURCES / "controlplane") | codes_in((SOURCES / "model" / "errors.py").read_text())
    assert sorted(documented("Errors of the API")) == sorted(used)


def test_the_command_line_has_exit_codes_for_error_codes_in_use_alone() -> None:
    mapped = re.findall(r'^    "([A-Z_]+)": ExitCode', (SOURCES / "cli" / "exit_codes.py").read_text(), re.MULTILINE)
    assert mapped
    client = SOURCES / "runtime" / "docker" / "errors.py"
    used = codes_below(SOURCES, without=(SOURCES / "cli", client))
    used |= set(re.findall(r'^    code = "([A-Z_]+)"', client.read_text(), re.MULTILINE))
    assert sorted(set(mapped) - used) == []


@pytest.mark.parametrize(
    ("source", "codes"),
    [
        ("raise RequestError('BUSY', 'x')", {"BUSY"}),
        ("raise errors.StepFailed('A_B' if x else 'C', 'x')", {"A_B", "C"}),
        ("CODE = 'X_FAILED'\nwith translated(CODE):\n    pass", {"X_FAILED"}),
        ("if a:\n    code = 'ONE'\nelse:\n    code, why = 'TWO', 'x'\nraise StepFailed(code, why)", {"ONE", "TWO"}),
        ("Failure(code=stored.get('code', 'LOST'), message='x')", {"LOST"}),
        ("class E(RequestError):\n    def __init__(self):\n        super().__init__('BAD', 'x')", {"BAD"}),
        ("error = {'code': 'LATE', 'message': 'x'}", {"LATE"}),
        ("class E(AgentError):\n    code = 'BROKEN'", {"BROKEN"}),
        ("raise Refused(400, 'BAD_JSON', 'x')\nawait http.refuse(503, 'FULL', 'x')", {"BAD_JSON", "FULL"}),
        ("raise StepFailed(failed.code, 'x')\nsuper().__init__('a sentence', 5)\nprint('NOT_ONE')", set()),
    ],
)
def test_codes_are_found_however_they_are_written(source: str, codes: set[str]) -> None:
    assert codes_in(source) == codes


def test_the_document_the_agent_and_the_control_plane_have_one_limit_of_messages() -> None:
    assert codec.MAX_FRAME_BYTES == 16 * 2**20
    agent = ConnectionSettings(endpoint="ws://127.0.0.1/agent/ws", token="t", version="1.0.0")
    limits = {agent.max_frame_bytes, Limits().message_bytes, local_socket.MAX_LINE_BYTES, agent_client.LINE_MAX}
    assert limits == {codec.MAX_FRAME_BYTES}
    # Frames; lines of the local socket; answers of the control plane's API.
    assert re.findall(r"at most (\d+ MiB)", DOCUMENT) == ["16 MiB"] * 3
    assert (
        f"at most 16 MiB with at most {codec.MAX_VALUES:,} JSON values and a nesting of {codec.MAX_DEPTH}" in DOCUMENT
    )


def test_the_document_has_the_limits_of_telemetry() -> None:
    limits, text = Limits(), " ".join(section("Queries of telemetry").split())
    assert f"more than {limits.telemetry_frame_bytes // 2**20} MiB when decompressed" in text
    assert f"{limits.telemetry_batch_bytes // 2**20} MiB in a `telemetry_batch`" in text
    assert f"more than {otlp_parts.MOST_NODES:,} items" in text
    assert lines.MOST_LINES == otlp_parts.MOST_NODES
    assert f"kept for {limits.telemetry_days} days and in up to {limits.kept_telemetry_bytes // 2**20} MiB" in text
    assert f"a resource of more than {otlp_parts.MOST_RESOURCE_BYTES // 2**10} KiB" in text
    assert f"item of more than {otlp_parts.MOST_ITEM_BYTES // 2**20} MiB" in text
    assert f"up to {limits.answer_records} (default)" in text
    assert f"reads up to {limits.telemetry_query_bytes // 2**20} MiB" in text
    assert all(f"`{kind.value}`" in text for kind in Kind)
    assert limits.telemetry_batch_bytes == codec.MAX_FRAME_BYTES


def test_the_document_has_the_extensions_of_the_control_plane() -> None:
    found = set(re.findall(r"^\| `(\w+)` \|", section("Extensions"), re.MULTILINE))
    assert found == FEATURES | {CERT_ENROLMENT} == {BINARY_TELEMETRY, TELEMETRY_ACK, CERT_ENROLMENT}


def test_the_document_has_the_limits_of_the_control_plane() -> None:
    limits, text = Limits(), " ".join(section("The reference control plane").split())
    assert limits.answer_bytes == codec.MAX_FRAME_BYTES
    assert f"at most {limits.answer_records} records" in text
    assert f"up to {limits.kept_bytes // 2**20} MiB and" in text
    assert f"({limits.kept_alerts:,} alerts, for example)" in text
    assert f"larger than {limits.report_bytes // 2**20} MiB" in text
    assert f"larger than {limits.response_bytes // 2**20} MiB" in text
