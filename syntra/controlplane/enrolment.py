"""Enrolment of agents: which session a client certificate may open, and the answers to requests for one."""

from __future__ import annotations

import hashlib
import logging
import ssl
import uuid
from datetime import timedelta

from syntra.connection.codec import Envelope, encode
from syntra.connection.enrolment import CERT_ENROLMENT, CERT_RESPONSE, CSR_REFUSED
from syntra.controlplane import certificates
from syntra.controlplane.authority import Authority, RequestRefused, utc
from syntra.controlplane.clock import Clock
from syntra.controlplane.fleet import AgentLink
from syntra.controlplane.records import JsonObject
from syntra.controlplane.store_thread import StoreThread
from syntra.model.fields import Fields
from syntra.utils.frozen import frozen

_log = logging.getLogger(__name__)


@frozen
class Presented:
    """The client certificate of a connection, which the TLS handshake has verified."""

    fingerprint: bytes
    is_ours: bool


class Enrolment:
    """Issues certificates to connected agents and checks the certificates of new connections."""

    def __init__(self, authority: Authority, store: StoreThread, lifetime_secs: float, clock: Clock) -> None:
        self._authority = authority
        self._store = store
        self._lifetime = timedelta(seconds=lifetime_secs)
        self._clock = clock

    def presented(self, channel: ssl.SSLObject | None) -> Presented | None:
        """The client certificate of a connection; None without one."""
        if channel is None or not (der := channel.getpeercert(binary_form=True)):
            return None
        issuer = (channel.getpeercert() or {}).get("issuer", ())
        is_ours = (("commonName", self._authority.name),) in tuple(issuer)
        return Presented(fingerprint=hashlib.sha256(der).digest(), is_ours=is_ours)

    async def refusal(self, server_id: str, presented: Presented | None) -> str | None:
        """Why a connection with the token of this server is refused; None when it is not. Raises StoreError."""
        if presented is not None and not presented.is_ours:
            return None
        if presented is not None:
            owner = await self._store.run(certificates.server_of, presented.fingerprint)
            if owner is None:
                return "the client certificate was revoked"
            return None if owner == server_id else "the client certificate belongs to another server"
        if await self._store.run(certificates.is_needed, server_id, self._clock()):
            return "this server has a client certificate, so its token alone is not enough"
        return None

    async def used(self, presented: Presented) -> None:
        """The agent has got hello_ack on a connection with this certificate. Raises StoreError."""
        if presented.is_ours:
            await self._store.run(certificates.used, presented.fingerprint, self._clock())

    async def take(self, link: AgentLink, envelope: Envelope) -> bool:
        """Answer `cert_request`. False when the extension is not agreed.

        Raises InvalidField, StoreError, and WebSocketClosed when the answer cannot be sent.
        """
        if CERT_ENROLMENT not in link.features:
            return False
        fields = Fields(envelope.payload)
        request_id = fields.text("request_id")
        try:
            now = self._clock()
            issued = self._authority.issue(fields.text("csr"), link.server_id, now=utc(now), lifetime=self._lifetime)
        except RequestRefused as exc:
            _log.warning("certificate refused", extra={"server_id": link.server_id, "reason": str(exc)})
            error = {"code": CSR_REFUSED, "message": str(exc)}
            await self._answer(link, {"request_id": request_id, "success": False, "error": error})
            return True
        not_after = issued.not_after.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        await self._store.run(certificates.add, link.server_id, issued, not_after, now)
        _log.info(
            "certificate issued",
            extra={"server_id": link.server_id, "serial": issued.serial, "not_after": not_after},
        )
        answer = {"request_id": request_id, "success": True, "certificate": issued.pem, "not_after": not_after}
        await self._answer(link, answer)
        return True

    async def _answer(self, link: AgentLink, payload: JsonObject) -> None:
        envelope = Envelope(id=str(uuid.uuid4()), type=CERT_RESPONSE, timestamp=self._clock(), payload=payload)
        await link.socket.send(encode(envelope))
