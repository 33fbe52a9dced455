"""kill -9 of a real process under load, again and again: what was acknowledged is counted against what was read."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.telemetry.buffer.rings import ALL, names, ring

ROUNDS = 6
LINES = 400


def run_and_kill(directory: Path, prefix: str, way: str, fsync: str, lines: int) -> list[str]:
    """The lines that the writer printed before it died."""
    command = [sys.executable, "-m", "tests.telemetry.buffer.writer_process", str(directory), prefix, way, fsync]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = [process.stdout.readline() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
        assert process.wait(30) == -signal.SIGKILL
    return "".join([*printed, rest]).splitlines()


@pytest.mark.parametrize(("way", "fsync"), [("thread", "interval"), ("loop", "interval"), ("loop", "always")])
def test_nothing_acknowledged_is_lost_and_duplicates_come_from_one_batch(tmp_path: Path, way: str, fsync: str) -> None:
    kept: set[str] = set()
    shipped: Counter[str] = Counter()
    batches_out = 0
    for number in range(ROUNDS):
        lines = run_and_kill(tmp_path / "ring", f"p{number}", way, fsync, LINES + 37 * number)
        kept |= {line.split()[1] for line in lines if line.startswith("kept ")}
        answers = [line for line in lines if not line.startswith("kept ")]
        for line in answers:
            if line.startswith("got "):
                shipped.update(line.split()[1:])
        batches_out += bool(answers) and answers[-1].startswith("got ")
    with ring(tmp_path / "ring", max_bytes=8 << 20) as buffer:
        assert buffer.stats().bad_segments == 0
        reader = buffer.reader("one", ALL)
        while batch := reader.next(max_items=100, max_bytes=1 << 20):
            shipped.update(names(batch))
            reader.taken(batch)
    assert len(kept) > ROUNDS * LINES // 3
    assert kept - shipped.keys() == set()
    twice = [name for name, count in shipped.items() if count > 1]
    assert len(twice) <= 10 * batches_out
