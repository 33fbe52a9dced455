"""TLS with the certificate that the control plane issued: every dial presents what `Enrolment` chooses."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from syntra.connection.certificate_files import (
    CertificateFiles,
    CertificateUnusable,
    KeyAndRequest,
    new_request,
    pair_of,
)
from syntra.connection.enrolment import (
    CERT_REQUEST,
    CertificateFacts,
    CertificateResponse,
    Enrolment,
    EnrolmentState,
    Slot,
    certificate_request,
    parse_response,
)
from syntra.connection.errors import NotConnected
from syntra.connection.retry import DialFailure
from syntra.connection.settings import TlsSettings
from syntra.connection.tls import TlsFiles
from syntra.utils.errors import AgentError

_log = logging.getLogger(__name__)

ANSWER_SECS = 30.0
"""How long the control plane may take for a certificate; the contract's deadline of a command."""
CHECK_SECS = 3600.0
"""The longest sleep: a clock that is set, or a suspended machine, must not delay a renewal by days."""


class EnrolledTls(TlsFiles):
    """Builds contexts with the chosen certificate, and keeps files and state machine in step.

    `context` runs in a thread, everything else on the event loop. The dial is the only caller of both.
    """

    def __init__(
        self, settings: TlsSettings, files: CertificateFiles, *, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(settings)
        self._files = files
        self._clock = clock
        self._loading = threading.Lock()
        self._state: Enrolment | None = None
        self._dialled: Slot | None = None

    def load(self) -> Enrolment:
        """The state machine, with what is on disk. Reads files once."""
        with self._loading:
            if self._state is None:
                found = self._files.load()
                self._state = Enrolment(current=found.get(Slot.CURRENT), candidate=found.get(Slot.CANDIDATE))
            return self._state

    @property
    def enrolment(self) -> Enrolment | None:
        """The state machine; None before `load`."""
        return self._state

    def context(self) -> ssl.SSLContext:
        """As the base's, with the certificate that this dial presents. Raises TlsFileError."""
        context = super().context()
        enrolment = self.load()
        chosen = enrolment.choose(self._clock())
        # The candidate may have become the current file just now. And a lost file must not strand the server: the token
        # alone may do.
        for slot in {Slot.CANDIDATE: (Slot.CANDIDATE, Slot.CURRENT), Slot.CURRENT: (Slot.CURRENT,)}.get(chosen, ()):
            try:
                context.load_cert_chain(self._files.path(slot))
            except (OSError, ssl.SSLError) as exc:
                _log.warning("cannot load the client certificate", extra={"slot": slot.value, "reason": str(exc)})
                context = super().context()
                continue
            self._dialled = slot
            return context
        self._dialled = Slot.TOKEN_ALONE
        return context

    def failed(self, failure: DialFailure) -> bool:
        """The dial, or the connection before its hello_ack, has failed. No effect on one that was accepted.

        Returns whether to dial again at once, with another choice.
        """
        slot, self._dialled = self._dialled, None
        if slot is None:
            return False
        return self.load().failed(slot, failure)

    def ready(self) -> Slot:
        """hello_ack came; returns what the connection presented."""
        slot, self._dialled = self._dialled, None
        return slot or Slot.TOKEN_ALONE

    async def accepted(self, slot: Slot) -> EnrolmentState:
        """Accept the candidate or drop it, on disk too, after a hello_ack. Returns the state. Raises AgentError."""
        enrolment = self.load()
        if slot is Slot.CANDIDATE:
            # Before the state machine moves on: a later dial loads the current file.
            await asyncio.to_thread(self._files.accept_candidate)
        had_candidate = enrolment.candidate is not None
        state = enrolment.accepted(slot, self._clock())
        if had_candidate and state is EnrolmentState.FAILED:
            await asyncio.to_thread(self._files.drop_candidate)
        return state

    async def receive(self, key: KeyAndRequest, certificate_pem: str) -> CertificateFacts:
        """Write the pair as the candidate. Raises AgentError."""
        pair = await asyncio.to_thread(pair_of, key, certificate_pem, self._clock())
        return await asyncio.to_thread(self._files.write_candidate, pair)


class CertificateRenewal:
    """Asks for certificates when they are due, over a connection that agreed to `cert_enrolment`."""

    def __init__(
        self,
        tls: EnrolledTls,
        server_id: str,
        *,
        send: Callable[[str, Mapping[str, Any]], Awaitable[None]],
        redial: Callable[[str], None],
        clock: Callable[[], float] = time.time,
        answer_secs: float = ANSWER_SECS,
    ) -> None:
        """`send` sends a message on the accepted connection and raises NotConnected or another AgentError.

        `redial` ends the connection and dials again.
        """
        self._tls = tls
        self._server_id = server_id
        self._send = send
        self._redial = redial
        self._clock = clock
        self._answer_secs = answer_secs
        self._agreed = False
        self._news = asyncio.Event()
        self._accepted: Slot | None = None
        self._awaited: str | None = None
        self._response: CertificateResponse | None = None

    def ready(self, *, agreed: bool) -> None:
        """A hello_ack came; `agreed` tells whether the extension is used. Does not block."""
        self._agreed = agreed
        self._accepted = self._tls.ready()
        self._news.set()

    def lost(self) -> None:
        """The accepted connection has ended."""
        self._agreed = False
        if self._tls.enrolment is not None:
            self._tls.enrolment.lost()
        self._news.set()

    def answered(self, payload: Mapping[str, Any]) -> None:
        """Take a `cert_response`. One that was not asked for is ignored."""
        response = parse_response(payload)
        if response is None or response.request_id != self._awaited:
            _log.info("ignored a cert_response that was not asked for")
            return
        self._awaited = None
        self._response = response
        self._news.set()

    async def run(self) -> None:
        """Accept, renew and ask until cancelled."""
        enrolment = await asyncio.to_thread(self._tls.load)
        while True:
            self._news.clear()
            try:
                if (slot := self._accepted) is not None:
                    self._accepted = None
                    if await self._tls.accepted(slot) is EnrolmentState.RECEIVED:
                        self._redial("the new client certificate is tried again")
                    _log.info("client certificate", extra={"state": enrolment.state.value, "reason": enrolment.problem})
                now = self._clock()
                due = enrolment.request_at(now) if self._agreed else None
                if due is not None and due <= now:
                    await self._ask(enrolment)
                    continue
            except AgentError as failed:
                _log.error("cannot renew the client certificate", extra={"reason": str(failed)})
                enrolment.refused(str(failed), self._clock())
                continue
            pause = CHECK_SECS if due is None else min(CHECK_SECS, due - now)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._news.wait()

    async def _ask(self, enrolment: Enrolment) -> None:
        key = await asyncio.to_thread(new_request, self._server_id)
        request_id = f"cert-{uuid.uuid4()}"
        self._awaited, self._response = request_id, None
        enrolment.requested()
        try:
            await self._send(CERT_REQUEST, certificate_request(request_id, key.request_pem))
            response = await self._answer()
        except NotConnected:
            enrolment.lost()
            return
        finally:
            self._awaited = None
        if response is None:
            enrolment.refused(f"the control plane did not answer within {self._answer_secs:g} s", self._clock())
        elif response.certificate is None:
            enrolment.refused(f"the control plane refused: {response.error}", self._clock())
        else:
            try:
                candidate = await self._tls.receive(key, response.certificate)
            except CertificateUnusable as exc:
                enrolment.refused(str(exc), self._clock())
            else:
                enrolment.received(candidate, self._clock())
                self._redial("a new client certificate")
                return
        _log.warning("no client certificate", extra={"reason": enrolment.problem})

    async def _answer(self) -> CertificateResponse | None:
        """The answer, or None when the time is up. Raises NotConnected when the connection ends before."""
        try:
            async with asyncio.timeout(self._answer_secs):
                while self._response is None:
                    if not self._agreed:
                        raise NotConnected("cannot get a certificate: the connection ended; it is asked for again")
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return None
        return self._response
