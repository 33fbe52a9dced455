"""What the engine's own texts about create, start and stop mean, and what to do about them. Pure.

The texts are those of Docker Engine 20.10 and runc 1.1, with the other spellings of later versions; what no pattern
matches is passed on as the engine said it. Ids are cut to twelve digits.
"""

from __future__ import annotations

import re

from syntra.utils.frozen import frozen

_LONG_ID = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")
# libnetwork says the first, docker-proxy the second, Engine 28 and later the third.
_PORT_TAKEN = (
    re.compile(r"Bind for \S*:(?P<port>\d+) failed: port is already allocated"),
    re.compile(r"listen (?:tcp|udp)[46]? \S*:(?P<port>\d+): bind: address already in use"),
    re.compile(r"failed to bind host port (?:for )?\S*?:(?P<port>\d+)\b.*(?:address already in use|allocated)"),
)


@frozen
class Explanation:
    """Why the engine refused, as the middle of a sentence, and the next step."""

    reason: str
    next_step: str

    def __str__(self) -> str:
        return f"{self.reason}; {self.next_step}"


_KNOWN: tuple[tuple[re.Pattern[str], str, str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), reason, step)
    for pattern, reason, step in (
        (
            r"network (?:syntra-)?(\S+) not found",
            "the network {0} is gone",
            "deploy the service again, which makes it anew",
        ),
        (
            r'exec: "([^"]*)": (?:executable file not found|stat \S+: no such file or directory|no such file)',
            "the image has no command {0}",
            "check command and entrypoint",
        ),
        (
            r'exec: "([^"]*)": permission denied',
            "{0} in the image cannot be executed",
            "make it executable in the image, or check command and entrypoint",
        ),
        (r"unable to find (user|group) ([^:]+):", "the image has no {0} {1}", "use one that it has, or a numeric id"),
        (
            r"exec format error",
            "the image's program is made for another platform than this server's",
            "build the image for this server's architecture",
        ),
        (
            r"no space left on device",
            "the disk of the engine is full",
            "free space (`docker system df` shows what takes it), then try again",
        ),
        (
            r'container name "/?([^"]+)" is already in use by container "?([0-9a-f]{12})',
            "the name {0} is taken by container {1}",
            "remove or rename that container",
        ),
        (
            r"bind source path does not exist: (\S+)",
            "{0} does not exist on this server",
            "create it, or correct the volume",
        ),
        (r"No command specified", "the image has no command of its own", "give one in command or entrypoint"),
        (r'unknown capability: "(?:CAP_)?(\w+)"', "there is no capability {0}", "correct cap_drop"),
        (r"Cannot mkdir: (\S+) is not a directory", "{0} in the image is not a directory", "correct working_dir"),
        (
            r'error mounting "tmpfs" to rootfs at "([^"]+)"',
            "the tmpfs at {0} cannot be mounted",
            "correct its options",
        ),
        (
            r'error mounting "([^"]+)" to rootfs at "([^"]+)".*not a directory',
            "{0} cannot be mounted at {1}: one is a file and the other a directory",
            "correct the volume",
        ),
    )
)


def shortened(text: str) -> str:
    """The text with ids of twelve digits."""
    return _LONG_ID.sub(r"\1", text)


def taken_port(text: str) -> int | None:
    """The host port that another holds, when that is what the engine says."""
    for pattern in _PORT_TAKEN:
        if (match := pattern.search(text)) is not None:
            return int(match["port"])
    return None


def port_is_taken(port: int, holder: str) -> Explanation:
    """`holder` is who has it; empty when that is not known."""
    return Explanation(
        reason=f"host port {port} is taken by {holder or 'another container or process'}",
        next_step="stop that, or choose another expose_port",
    )


def explained(text: str) -> Explanation | None:
    """What the engine's text means; None when it is not one of those known here."""
    if (port := taken_port(text)) is not None:
        return port_is_taken(port, "")
    for pattern, reason, step in _KNOWN:
        if (match := pattern.search(text)) is not None:
            return Explanation(reason=reason.format(*match.groups()), next_step=step)
    return None
