"""Where the parts of an installed agent are. Pure.

The texts that `install` writes (units, configuration) always name the paths below `/`; `prefix` is for building an
image of a machine, and for tests.
"""

from __future__ import annotations

from pathlib import PurePosixPath as Path

OPT = "/opt/syntra-agent"
COMMAND = "/usr/local/bin/syntra-agent"
CONFIGURATION = "/etc/syntra/agent.toml"
TOKEN = "/etc/syntra/token"
ROOT_KEYS = "/etc/syntra/release-root-keys"
DATA = "/var/lib/syntra"
CACHE = "/var/cache/syntra"
RUN = "/run/syntra"
UNIT = "/etc/systemd/system/syntra-agent.service"
OPENRC_SCRIPT = "/etc/init.d/syntra-agent"
SERVICE = "syntra-agent"
PROGRAM = f"{OPT}/current/syntra-agent"
BOOT_CHECK = f"{OPT}/boot-check"
TRIAL = f"{OPT}/trial"
IDENTITY = f"{DATA}/identity.json"


def below(prefix: str, path: str) -> str:
    """`path` inside the machine whose root is `prefix`."""
    return str(Path(prefix) / path.lstrip("/"))
