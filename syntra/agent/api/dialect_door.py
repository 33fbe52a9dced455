"""Translates every frame from and to the control plane; all other code knows only the contract.

With `control_plane.dialect = "auto"` the first frame that only the hub sends selects the hub's dialect, which is stored
per endpoint. Outbox messages are translated when they are sent: at queue time the dialect may not be known.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from syntra.agent.journal.database import JournalError
from syntra.agent.journal.dialects import RememberedDialects
from syntra.connection.codec import Envelope, decode, encode
from syntra.connection.dialect.contract import Contract, Dialect
from syntra.connection.dialect.hub import Hub
from syntra.connection.dialect.hub_commands import is_hubs
from syntra.connection.errors import MalformedFrame

log = logging.getLogger(__name__)

AUTO = "auto"
DIALECTS: dict[str, Callable[[], Dialect]] = {Contract.name: Contract, Hub.name: Hub}


class DialectDoor:
    """One per endpoint. Call `load` before the first frame."""

    def __init__(
        self, configured: str, endpoint: str, remembered: RememberedDialects, clock: Callable[[], float] = time.time
    ) -> None:
        """`configured` is `auto` or a dialect's name; `clock` gives epoch seconds."""
        self._endpoint = endpoint
        self._remembered = remembered
        self._clock = clock
        self._is_open = configured == AUTO
        self._dialect: Dialect = Contract() if self._is_open else DIALECTS[configured]()

    @property
    def name(self) -> str:
        """The name of the current dialect."""
        return self._dialect.name

    async def load(self) -> None:
        """Load the dialect that an earlier run recognised at this endpoint."""
        if not self._is_open:
            return
        try:
            known = await self._remembered.of(self._endpoint)
        except JournalError as unread:
            log.warning("cannot read the control plane's dialect", extra={"reason": str(unread)})
            return
        if known in DIALECTS:
            self._is_open = False
            self._dialect = DIALECTS[known]()

    async def incoming(self, frame: Envelope) -> Sequence[Envelope]:
        """The commands that a frame becomes."""
        if self._is_open and is_hubs(frame):
            await self._recognise(Hub(), frame.type)
        return self._dialect.incoming(frame, self._clock())

    def outgoing(self, message: Envelope) -> Sequence[Envelope]:
        """The frames that a message of the agent becomes; none when it must not be sent."""
        return self._dialect.outgoing(message)

    def translate(self, text: str) -> Sequence[str]:
        """`outgoing` of an encoded message."""
        if isinstance(self._dialect, Contract):
            return (text,)
        try:
            message = decode(text)
        except MalformedFrame as odd:
            log.error("message is sent as it is", extra={"reason": str(odd)})
            return (text,)
        translated = self._dialect.outgoing(message)
        return (text,) if translated == (message,) else [encode(one) for one in translated]

    async def _recognise(self, dialect: Dialect, kind: str) -> None:
        # Store first: after a kill, the next run must use the dialect from its first message.
        try:
            await self._remembered.remember(self._endpoint, dialect.name)
        except JournalError as unwritable:
            log.error("cannot store the control plane's dialect", extra={"reason": str(unwritable)})
        self._is_open = False
        self._dialect = dialect
        log.info("control plane's dialect recognised", extra={"dialect": dialect.name, "frame": kind[:60]})
