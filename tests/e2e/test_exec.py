"""`exec` through the command line of a real agent, as people use `docker exec`: backups above all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.program import AGENT
from tests.engine import busybox_image, cleanup, new_token, require_engine, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 60.0
# Every byte, in an order that no text codec survives, and NULs.
BINARY = bytes(range(256)) * 4096 + b"\0\xff\r\n"


@dataclass(frozen=True, slots=True)
class Stage:
    agent: AgentProcess
    service: str

    def command(self, *words: str) -> list[str]:
        return [*AGENT, "--socket", str(self.agent.socket), "exec", *words]

    def exec(self, *words: str, stdin: Any = subprocess.DEVNULL) -> subprocess.CompletedProcess[bytes]:
        given: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
        command = self.command(*words)
        return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=DEADLINE, check=False, **given)

    def inside(self, mark: str) -> list[str]:
        """Processes of the service whose command line holds a mark."""
        listed = self.exec(self.service, "ps").stdout.decode()
        return [line for line in listed.splitlines() if mark in line]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    require_engine()
    token = new_token()
    try:
        busybox_image(f"{token}:v1")
        with AgentProcess(tmp_path_factory.mktemp("exec")) as agent:
            service = f"svc-{token}"
            report = agent.carry_out(
                "deploy",
                {
                    "service_id": service,
                    "deployment_id": f"d-{uuid.uuid4().hex[:10]}",
                    "service_name": "web",
                    "project_name": token,
                    "image": f"{token}:v1",
                    "config": {"port": 8080, "replicas": 2},
                    "timeout_seconds": 60,
                },
                timeout=90,
            )
            assert report["status"] == "running", report
            yield Stage(agent, service)
    finally:
        cleanup(token)


def test_streams_and_exit_code_are_the_commands_own(stage: Stage) -> None:
    script = "echo out; echo err >&2; exit 7"
    ended = stage.exec(stage.service, "sh", "-c", script)
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, b"out\n", b"err\n")
    ended = stage.exec("web", "--", "sh", "-c", script)
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, b"out\n", b"err\n")
    ended = stage.exec("-w", "/tmp", "-e", "A=b c", "-eD=e", "web", "sh", "-c", "pwd; echo $A $D")
    assert (ended.returncode, ended.stdout) == (0, b"/tmp\nb c e\n")
    assert stage.exec("web", "no-such-program").returncode in (126, 127)
    assert stage.exec("web", "sh", "-c", "kill -9 $$").returncode == 137


def test_a_pipe_is_the_commands_input_and_binary_comes_back_as_it_went(stage: Stage, tmp_path: Path) -> None:
    assert stage.exec("web", "--", "cat", stdin=b"x\n").stdout == b"x\n"
    assert stage.exec("-i", "web", "cat", stdin=BINARY).stdout == BINARY
    dump = tmp_path / "dump"
    dump.write_bytes(BINARY)
    with dump.open("rb") as file:
        assert stage.exec("web", "sh", "-c", "cat > /tmp/restored; wc -c < /tmp/restored", stdin=file).stdout == (
            b"%d\n" % len(BINARY)
        )
    assert stage.exec("web", "cat", "/tmp/restored").stdout == BINARY
    assert stage.exec("web", "cat").stdout == b"", "no input ends at once"


def test_a_command_that_does_not_read_its_input_still_delivers_its_output(stage: Stage) -> None:
    for _ in range(5):
        ended = stage.exec("web", "head", "-c", "300000", stdin=b"x" * 20_000_000)
        assert (ended.returncode, ended.stdout) == (0, b"x" * 300_000)
    assert stage.exec("web", "true", stdin=b"x" * 20_000_000).returncode == 0


def test_256_mib_pass_through_unchanged_and_the_agent_holds_none_of_it(stage: Stage) -> None:
    size = 256 * 1024 * 1024
    block = os.urandom(1024 * 1024)
    before = _resident_kib(stage.agent.pid)
    process = subprocess.Popen(stage.command("web", "cat"), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    expected, seen, left, peak = hashlib.sha256(), hashlib.sha256(), size, before
    os.set_blocking(process.stdin.fileno(), False)
    pending = memoryview(b"")
    length = 0
    while True:
        wants = [process.stdin] if not process.stdin.closed else []
        readable, writable, _ = select.select([process.stdout], wants, [], DEADLINE)
        assert readable or writable, "nothing moves"
        if writable and not process.stdin.closed:
            if not pending and left:
                pending, left = memoryview(block), left - len(block)
                expected.update(block)
            if pending:
                with contextlib.suppress(BlockingIOError):
                    pending = pending[os.write(process.stdin.fileno(), pending) :]
            if not pending and not left:
                process.stdin.close()
        if readable:
            data = os.read(process.stdout.fileno(), 1024 * 1024)
            if not data:
                break
            seen.update(data)
            length += len(data)
            peak = max(peak, _resident_kib(stage.agent.pid))
    process.stdout.close()
    assert process.wait(DEADLINE) == 0
    assert (length, seen.hexdigest()) == (size, expected.hexdigest())
    assert peak - before < 32 * 1024, "constant memory"


def test_an_output_that_waits_holds_up_the_command_and_not_the_agent(stage: Stage) -> None:
    before = _resident_kib(stage.agent.pid)
    process = subprocess.Popen(stage.command("web", "yes"), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(4) == b"y\ny\n"
    time.sleep(1.5)
    assert _resident_kib(stage.agent.pid) - before < 32 * 1024
    assert stage.agent.ask("status", {})["success"]
    # A closed pipe ends the client, and that ends the command.
    process.stdout.close()
    assert process.wait(DEADLINE) == 141
    wait_until(lambda: not stage.inside(" yes"), "the command to end with its client", 20)


def test_what_was_written_before_the_timeout_arrives(stage: Stage) -> None:
    ended = stage.exec("--timeout", "1", "web", "sh", "-c", "echo before; sleep 4711")
    assert (ended.returncode, ended.stdout) == (1, b"before\n")
    assert b"ran longer than 1 s" in ended.stderr
    assert not stage.inside("sleep 4711")
    ended = stage.exec("--json", "--timeout", "1", "web", "sh", "-c", "echo before; sleep 4712")
    assert ended.returncode == 1
    assert ended.stdout == b'{"stdout": "before\\n", "stderr": "", "timed_out": true}\n'


def test_the_bounded_form_is_cut_and_says_so(stage: Stage) -> None:
    answer = stage.agent.ask("exec", {"service_id": stage.service, "command": ["head", "-c", "400000", "/dev/zero"]})
    assert answer["data"] == {"exit_code": 0, "stdout": "\0" * 262_144, "stderr": "", "truncated": True}
    answer = stage.agent.ask("exec", {"service_id": stage.service, "command": ["printf", "\\377a"]})
    assert answer["data"] == {"exit_code": 0, "stdout": "/2E=", "stderr": "", "encoding": "base64"}


def test_a_replica_is_chosen_by_its_number(stage: Stage) -> None:
    names = [stage.exec("--replica", number, "web", "hostname").stdout for number in ("1", "2")]
    assert len(set(names)) == 2 and all(names)
    ended = stage.exec("--replica", "3", "web", "hostname")
    assert ended.returncode == 1
    assert b"replica 3 does not run; use 1, 2" in ended.stderr


def test_an_interrupt_ends_the_command_too(stage: Stage) -> None:
    process = subprocess.Popen(
        stage.command("web", "sh", "-c", "echo up; sleep 4713"),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGINT)
    process.stdout.close()
    assert process.wait(DEADLINE) == 130
    wait_until(lambda: not stage.inside("sleep 4713"), "the command to end with its client", 20)


class Terminal:
    """A command of ours on a terminal of its own."""

    def __init__(self, command: list[str], *, rows: int, columns: int) -> None:
        self.master, slave = pty.openpty()
        self.slave = os.dup(slave)
        self.resize(rows, columns, signalled=False)
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self.text = ""

    def resize(self, rows: int, columns: int, *, signalled: bool = True) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if signalled:
            self.process.send_signal(signal.SIGWINCH)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, pattern: str) -> re.Match[str]:
        """Read until a pattern has been shown; what comes behind it stays."""
        ends = time.monotonic() + DEADLINE
        while (found := re.search(pattern, self.text)) is None:
            readable, _, _ = select.select([self.master], [], [], max(0.0, ends - time.monotonic()))
            assert readable, f"{pattern!r} did not come; shown: {self.text!r}"
            self.text += os.read(self.master, 65536).decode()
        self.text = self.text[found.end() :]
        return found

    @property
    def is_as_before(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)
        os.close(self.master)
        os.close(self.slave)


@contextlib.contextmanager
def terminal(stage: Stage, *words: str, rows: int = 31, columns: int = 97) -> Iterator[Terminal]:
    shown = Terminal(stage.command(*words), rows=rows, columns=columns)
    try:
        yield shown
    finally:
        shown.close()


def test_a_shell_on_a_terminal_has_its_size_its_keys_and_its_exit_code(stage: Stage) -> None:
    with terminal(stage, "-it", "web", "sh") as shown:
        shown.expect("# ")
        assert not shown.is_as_before, "raw while the shell runs"
        shown.type("stty size; tty\r")
        shown.expect(r"31 97\r\n/dev/pts/\d+\r\n")
        shown.resize(40, 120)
        for _ in range(50):
            # The engine is told in its own time.
            shown.type("stty size\r")
            if shown.expect(r"\r\n(\d+ \d+)\r\n")[1] == "40 120":
                break
            time.sleep(0.1)
        else:
            pytest.fail("the new size never arrived")
        # ^C goes to the command, not to the client.
        shown.type("sh -c 'echo sle\"\"eping; sleep 4714'\r")
        shown.expect("sleeping")
        shown.type("\x03")
        shown.type("echo a''live; exit 5\r")
        shown.expect("alive")
        assert shown.process.wait(DEADLINE) == 5
        assert shown.is_as_before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_given_back_when_the_client_is_ended(stage: Stage, number: signal.Signals) -> None:
    with terminal(stage, "-it", "web", "sh") as shown:
        shown.expect("# ")
        assert not shown.is_as_before
        shown.process.send_signal(number)
        assert shown.process.wait(DEADLINE) == 128 + number
        assert shown.is_as_before


def test_a_terminal_without_a_terminal_is_refused(stage: Stage) -> None:
    ended = stage.exec("-it", "web", "sh")
    assert (ended.returncode, ended.stderr) == (2, b"cannot use --tty: standard input is not a terminal; omit -t\n")


def test_without_a_terminal_of_its_own_a_commands_output_is_escaped_on_ours(stage: Stage) -> None:
    with terminal(stage, "web", "printf", "a\\033[2Jb\\n") as shown:
        shown.expect(r"a\\x1b\[2Jb\r\n")
        assert shown.process.wait(DEADLINE) == 0


def _resident_kib(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])
