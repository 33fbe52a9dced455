"""Generates the Python modules of the messages in `proto/`, with the compiler of the pinned grpcio-tools.

Usage: generate_proto.py [FOLDER]. Without FOLDER, it replaces the modules of the package.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "proto"
PACKAGE = ROOT / "syntra/telemetry/wire"


def generate(folder: Path) -> None:
    """Write one module and its stub for each .proto file. The folders below `proto/` do not matter in Python."""
    with tempfile.TemporaryDirectory() as scratch:
        sources = [str(path.relative_to(SOURCES)) for path in sorted(SOURCES.rglob("*.proto"))]
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{SOURCES}"]
        subprocess.run([*command, f"--python_out={scratch}", f"--pyi_out={scratch}", *sources], check=True)
        for path in sorted(Path(scratch).rglob("*_pb2.py*")):
            (folder / path.name).write_bytes(path.read_bytes())


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE)
