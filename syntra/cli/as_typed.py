"""Sentences as the person needs them: services by the name that was typed, commands as they have to be typed.

What is remembered belongs to the command line that runs; `forget` begins another one.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

_SERVICES: dict[str, str] = {}
"""What the person typed for each service id."""
_REMOTE: dict[str, list[str]] = {}
"""The verbs that reach the agent over a control plane, with the options that go with each."""

_COMMAND = re.compile(r"syntra-agent ([a-z]+)(?![a-z-])")


def forget() -> None:
    """Forget all; another command line begins."""
    _SERVICES.clear()
    _REMOTE.clear()


def typed(service_id: str, given: str) -> str:
    """Remember what the person typed for a service; returns the id."""
    if given != service_id:
        _SERVICES[service_id] = given
    return service_id


def over_control_plane(verbs: Sequence[str], options: Sequence[str]) -> None:
    """From now on, these verbs reach the agent as `controlplane VERB` with these options."""
    _REMOTE.update((verb, list(options)) for verb in verbs)


def as_typed(sentence: str) -> str:
    """A sentence of the agent, with what the person typed in place of a service's id; its commands as `to_type`."""
    for service_id, given in _SERVICES.items():
        spelled = given.replace("\\", r"\\")
        sentence = re.sub(rf"{re.escape(service_id)}(?![A-Za-z0-9_-])", spelled, sentence)
    return to_type(sentence)


def to_type(sentence: str) -> str:
    """A sentence that names commands, such as "see `syntra-agent ps`", with each as it reaches the same agent.

    Over a control plane: "see `syntra-agent controlplane ps --server web1`". A verb that exists on the server only
    stays as it is.
    """
    return _COMMAND.sub(_reaching, sentence) if _REMOTE else sentence


def _reaching(found: re.Match[str]) -> str:
    verb = found[1]
    if verb not in _REMOTE:
        return found[0]
    return " ".join(["syntra-agent controlplane", verb, *map(shlex.quote, _REMOTE[verb])])
