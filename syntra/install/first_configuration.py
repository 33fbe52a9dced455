"""The configuration that the first install writes; later ones keep the file. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping


def configuration(*, agent_id: str, server_id: str, endpoint: str | None, update: Mapping[str, str]) -> str:
    """The text of agent.toml. Without an endpoint the agent runs alone. `update`: keys of the section [update]."""
    lines = [
        "# Written by `syntra-agent install`, which keeps this file from now on. `syntra-agent config show` prints",
        "# all keys with their values, `syntra-agent config check` validates this file.",
        "",
        f"agent_id = {_quoted(agent_id)}",
        f"server_id = {_quoted(server_id)}",
        "",
        "[control_plane]",
    ]
    if endpoint is None:
        lines.append('# endpoint = "wss://…"  # and its token in the file `token` beside this one')
    else:
        lines.append(f"endpoint = {_quoted(endpoint)}")
    if update:
        lines += ["", "[update]", *(f"{name} = {_quoted(value)}" for name, value in update.items())]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    # A JSON string is a basic string of TOML; the values are ASCII.
    return json.dumps(text)
