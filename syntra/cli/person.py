"""The person who types."""

from __future__ import annotations

import os
import pwd


def person() -> str:
    """The name of the user, also behind sudo; the number of one without a name."""
    if name := os.environ.get("SUDO_USER"):
        return name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
