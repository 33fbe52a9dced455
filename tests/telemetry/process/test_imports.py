"""What the telemetry process loads when it starts."""

from __future__ import annotations

import subprocess
import sys

NOT_NEEDED = ("msgspec", "syntra.telemetry.otlp.json_decoder", "grpc", "websockets", "cryptography")


def test_an_idle_process_loads_no_decoder_of_json_and_no_exporter_over_grpc() -> None:
    program = "import sys, syntra.telemetry.process.main; print('\\n'.join(sys.modules))"
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    loaded = made.stdout.split()
    assert "syntra.telemetry.process.service" in loaded
    assert [name for name in NOT_NEEDED if name in loaded] == []
