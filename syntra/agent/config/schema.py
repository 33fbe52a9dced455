"""The definition of a configuration key: kind, default, range, whether it is secret or reloadable. Pure.

The fields of the settings classes declare the keys: see `settings`.
"""

from __future__ import annotations

from enum import Enum

from syntra.utils.frozen import frozen


class Kind(Enum):
    """The type of a value: how it is written, checked and shown."""

    NAME = "a name"
    PATH = "an absolute path"
    SOCKET = "the path of a unix socket"
    URL = "a WebSocket address"
    SECRET = "a secret"
    INTEGER = "a whole number"
    NUMBER = "a number"
    PORT = "a port"
    CHOICE = "a choice"
    CHOICES = "choices"
    OPTIONAL_PATH = "an absolute path, or empty"
    HTTP_URL = "an HTTP address"
    OPTIONAL_HTTP_URL = "an HTTP address, or empty"
    ENTRY = "a name of the proxy's, or empty"
    ENTRIES = "names of the proxy's"
    ADDRESSES = "IP addresses"
    ORIGINS = "origins of web pages"
    LISTENERS = "entrypoints with their addresses"
    EMAIL = "an e-mail address, or empty"
    IMAGE = "an image"
    WINDOW = "a time of day from and to, or empty"
    OBJECT = "the name of an object in a cluster, or empty"
    NAMESPACES = "names of namespaces"
    GATEWAY = "the name of a Gateway, perhaps with its namespace, or empty"
    SCRAPES = "Prometheus endpoints"


Value = str | int | float | tuple[str, ...]
"""A checked value; lists are tuples of strings."""

LISTS = frozenset({Kind.ENTRIES, Kind.ADDRESSES, Kind.LISTENERS, Kind.ORIGINS, Kind.CHOICES, Kind.NAMESPACES})
"""Kinds that are lists in the file, and comma-separated in a variable. SCRAPES are tables, and a JSON array there."""


@frozen
class Declared:
    """The metadata with which a settings field declares its key."""

    kind: Kind
    meaning: str
    minimum: float = 0
    maximum: float = 0
    choices: tuple[str, ...] = ()
    reloadable: bool = False


def key(
    kind: Kind,
    meaning: str,
    *,
    minimum: float = 0,
    maximum: float = 0,
    choices: tuple[str, ...] = (),
    reloadable: bool = False,
) -> dict[str, Declared]:
    """The `metadata` that makes a field a key; the key's default is the field's."""
    return {
        "key": Declared(
            kind=kind, meaning=meaning, minimum=minimum, maximum=maximum, choices=choices, reloadable=reloadable
        )
    }


@frozen
class Key:
    """One key. `section` is empty at the top level; with `default` None the key is absent unless set."""

    section: str
    name: str
    kind: Kind
    meaning: str
    default: Value | None = None
    minimum: float = 0
    maximum: float = 0
    choices: tuple[str, ...] = ()
    reloadable: bool = False
    """A running agent takes a new value on SIGHUP; every other key needs a restart."""

    @property
    def dotted(self) -> str:
        """`telemetry.otlp_http_port`, as errors and `config show` write it."""
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def variable(self) -> str:
        """`SYNTRA_TELEMETRY__OTLP_HTTP_PORT`: two underscores before the key, because names have single ones."""
        return PREFIX + self.dotted.replace(".", "__").upper()

    @property
    def secret(self) -> bool:
        """Whether the value must never be shown."""
        return self.kind is Kind.SECRET


PREFIX = "SYNTRA_"

NOT_KEYS = frozenset(
    {
        "SYNTRA_BINARY",  # the downloaded file, set by the launcher of the compiled program
        "SYNTRA_CONFIG",  # the file's path
        "SYNTRA_CONTROLPLANE_TOKEN",  # the operator's token of the controlplane verb
        "SYNTRA_CONTROLPLANE_URL",  # where that verb calls
        "SYNTRA_PEERS",  # a development aid
        "SYNTRA_REGISTRY_PASSWORD",  # the deploy verb's password
        "SYNTRA_RUNTIME_DIR",  # where the launcher unpacks the compiled program
        # Services have these in their environment; an agent that runs inside one is not misconfigured.
        "SYNTRA_DEPLOYMENT_ID",
        "SYNTRA_OTLP_ENDPOINT",
        "SYNTRA_SERVICE_ID",
    }
)
"""SYNTRA_ variables that are not configuration keys."""
