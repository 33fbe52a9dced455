"""The names of one demo's objects."""

from __future__ import annotations

import re
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

from scripts.demo_story.errors import expect

PREFIX = "syntra-demo-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The names of one demo's objects; all follow from the directory's name."""

    directory: Path
    token: str

    @classmethod
    def of(cls, directory: Path) -> Names:
        """The names of the demo in `directory`."""
        found = re.fullmatch(f"{PREFIX}([0-9a-f]{{8}})", directory.name)
        expect(found and directory.is_dir(), f"{directory} is not the directory of a demo")
        assert found is not None, "cannot happen because it was expected above"
        return cls(directory=directory.absolute(), token=found[1])

    @property
    def service_id(self) -> str:
        return f"svc_demo_{self.token}"

    @property
    def project(self) -> str:
        return f"demo-{self.token}"

    @property
    def server_id(self) -> str:
        return f"srv_demo_{self.token}"

    @property
    def host(self) -> str:
        """The host name by which the proxy knows the service."""
        return f"hello-{self.token}.example.com"

    @classmethod
    def new(cls) -> Names:
        """The names of a new demo, in a new private directory below TMPDIR."""
        directory = Path(tempfile.gettempdir()) / f"{PREFIX}{secrets.token_hex(4)}"
        directory.mkdir(mode=0o700)
        return cls.of(directory)
