"""The client certificate of the agent: issued by the control plane, or put there by hand with `[tls] cert_path`.

A certificate put there by hand is used as it is. Then the agent does not offer `cert_enrolment` and asks for none.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from syntra import __version__
from syntra.agent.alerts.certificate import CertificateWatch
from syntra.agent.alerts.ledger import AlertLedger
from syntra.agent.config.settings import Settings
from syntra.connection.certificate_files import CertificateFiles, facts_of
from syntra.connection.enrolled_tls import ANSWER_SECS, CertificateRenewal, EnrolledTls
from syntra.connection.enrolment import CertificateFacts, Slot, renewal_at
from syntra.connection.retry import DialFailure
from syntra.connection.settings import ConnectionSettings, TlsSettings
from syntra.connection.tls import TlsFiles
from syntra.model.fields import Json
from syntra.utils.errors import AgentError
from syntra.utils.timestamps import format_secs

log = logging.getLogger(__name__)

DIRECTORY = "certificates"
"""Below `data_dir`."""
# How often a certificate put there by hand is read again.
CHECK_SECS = 60.0


class OwnCertificate:
    """What `ControlLink` does about the certificate. `tls` builds the contexts of the connection."""

    def __init__(
        self,
        settings: Settings,
        server_id: str,
        *,
        send: Callable[[str, Mapping[str, Any]], Awaitable[None]],
        redial: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """See `CertificateRenewal` for `send` and `redial`."""
        connection = connection_settings(settings)
        self._by_hand = connection.tls.cert_path
        self._clock = clock
        self._facts: CertificateFacts | None = None
        self._renewal: CertificateRenewal | None = None
        self.tls = TlsFiles(connection.tls)
        if connection.secure and self._by_hand is None:
            files = CertificateFiles(
                Path(settings.data_dir) / DIRECTORY, endpoint=connection.endpoint, server_id=server_id
            )
            self._enrolled = self.tls = EnrolledTls(connection.tls, files, clock=clock)
            self._renewal = CertificateRenewal(
                self._enrolled, server_id, send=send, redial=redial, clock=clock, answer_secs=ANSWER_SECS
            )

    @property
    def is_issued(self) -> bool:
        """Whether the agent asks the control plane for its certificate."""
        return self._renewal is not None

    async def run(self, ledger: AlertLedger | None = None) -> None:
        """Renew the certificate, or read the one put there by hand, until cancelled. `ledger` gets its alert."""
        # Before the first check of the alert.
        if self._renewal is not None:
            await asyncio.to_thread(self._enrolled.load)
        elif self._by_hand is not None:
            self._facts = await asyncio.to_thread(self._read_by_hand)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read() if self._renewal is None else self._renewal.run(), name="renewal")
            if ledger is not None:
                group.create_task(
                    CertificateWatch(ledger, self.facts, clock=self._clock).run(), name="certificate alert"
                )

    async def _read(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECS)
            self._facts = await asyncio.to_thread(self._read_by_hand) if self._by_hand is not None else None

    def ready(self, *, agreed: bool) -> None:
        """A hello_ack came; `agreed` tells whether `cert_enrolment` is used."""
        if self._renewal is not None:
            self._renewal.ready(agreed=agreed)

    def lost(self) -> None:
        """The accepted connection has ended."""
        if self._renewal is not None:
            self._renewal.lost()

    def failed(self, failure: DialFailure) -> bool:
        """A dial has failed, or a connection ended. Returns whether to dial again at once."""
        return self._renewal is not None and self._enrolled.failed(failure)

    def answered(self, payload: Mapping[str, Any]) -> None:
        """A `cert_response` came."""
        if self._renewal is not None:
            self._renewal.answered(payload)

    def facts(self) -> CertificateFacts | None:
        """The certificate in force; None without one, or when it cannot be read."""
        if self._renewal is None:
            return self._facts
        enrolment = self._enrolled.enrolment
        return enrolment.current if enrolment is not None else None

    def shown(self) -> dict[str, Json] | None:
        """The certificate as `status` shows it; None without one and without a request for one."""
        facts = self.facts()
        about: dict[str, Json] = {"source": "file" if self._renewal is None else "control_plane"}
        if facts is not None:
            about |= {
                "subject": facts.subject,
                "serial": facts.serial,
                "not_after": format_secs(facts.not_after),
                "days_left": round((facts.not_after - self._clock()) / 86_400, 4),
            }
        if self._renewal is None or (enrolment := self._enrolled.enrolment) is None:
            return about if facts is not None else None
        if facts is None and enrolment.state.value == "none":
            return None
        about |= {
            "state": enrolment.state.value,
            "in_use": enrolment.in_use in (Slot.CURRENT, Slot.CANDIDATE),
            "renewal_at": format_secs(renewal_at(facts)) if facts is not None else None,
            "problem": enrolment.problem or None,
        }
        return about

    def _read_by_hand(self) -> CertificateFacts | None:
        assert self._by_hand is not None, "cannot happen because the caller has checked it"
        try:
            return facts_of(Path(self._by_hand).read_bytes())
        except (OSError, AgentError) as exc:
            # The dial reports a file that it cannot use, with the setting's name.
            log.debug("cannot read the client certificate", extra={"reason": str(exc)})
            return None


def connection_settings(settings: Settings) -> ConnectionSettings:
    """The connection's settings. Only for an agent with a control plane."""
    control_plane = settings.control_plane
    assert control_plane is not None, "cannot happen because only an agent with one makes a link"
    tls = settings.tls
    return ConnectionSettings(
        endpoint=control_plane.endpoint,
        token=control_plane.token,
        version=__version__,
        heartbeat_interval_secs=control_plane.heartbeat_interval_secs,
        reconnect_max_delay_secs=control_plane.reconnect_max_delay_secs,
        tls=TlsSettings(
            ca_path=_text(tls.ca_path if tls else None),
            cert_path=_text(tls.cert_path if tls else None),
            key_path=_text(tls.key_path if tls else None),
        ),
    )


def _text(path: object) -> str | None:
    return str(path) if path is not None else None
