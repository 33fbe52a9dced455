"""The client of a control plane's API: one request per connection, JSON in and out, as curl does it."""

from __future__ import annotations

import http.client
import json
import os
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

from syntra.cli.controlplane_options import TOKEN_VARIABLE
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.reading import Json, rows, section, text
from syntra.utils.frozen import frozen

ANSWER_SECS = 15.0
"""Longest wait for an answer, beyond what the call itself asks the control plane to wait."""
ANSWER_MAX = 20 * 1024 * 1024
"""More than the longest answer of the API."""
TOKEN_MAX = 4096


class CallRefused(CliError):
    """The API's error; its code is that of the API."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(
            f"the control plane refused: {message} ({code})", ExitCode.REFUSED if status == 401 else ExitCode.FAILED
        )
        self.code = code
        self.message = message


@frozen
class Api:
    """Where a control plane answers. `certificates`: the file to check its TLS by; None: those of the system."""

    url: str
    token: str = field(repr=False)
    certificates: Path | None = None
    is_pinned: bool = False
    """`certificates` has the very certificate, whatever name it was made for."""

    def call(
        self, method: str, path: str, body: Json | None = None, *, wait: float = 0.0, query: Mapping[str, str] = {}
    ) -> Json:
        """The answer to one request. `wait`: seconds that the control plane may wait for what is asked.

        Raises CallRefused, and CliError when no control plane answers.
        """
        asked = {**query, **({"wait": f"{wait:g}"} if wait else {})}
        connection = self._connection(ANSWER_SECS + wait)
        try:
            connection.request(
                method,
                f"{path}?{urlencode(asked)}" if asked else path,
                None if body is None else json.dumps(body),
                {"authorization": f"Bearer {self.token}", "content-type": "application/json"},
            )
            answer = connection.getresponse()
            known = json.loads(answer.read(ANSWER_MAX))
        except (OSError, http.client.HTTPException, ValueError) as failed:
            raise CliError(
                f"cannot reach the control plane: no control plane answers at {self.url} ({failed}); "
                "run `syntra-agent controlplane`, or give --url",
                ExitCode.UNAVAILABLE,
            ) from failed
        finally:
            connection.close()
        if not isinstance(known, dict):
            known = {}
        if not 200 <= answer.status < 300:
            error = section(known, "error")
            raise CallRefused(
                answer.status, text(error, "code", str(answer.status)), text(error, "message", "no reason given")
            )
        return known

    def pages(self, path: str, name: str) -> Iterator[Json]:
        """The objects of a list, page after page."""
        after: dict[str, str] = {}
        while True:
            page = self.call("GET", path, query=after)
            yield from rows(page, name)
            if page.get("more") is not True:
                return
            after = {"after": text(page, "next")}

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        assert parts.hostname is not None, "checked when the object was made"
        if parts.scheme == "http":
            return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
        try:
            context = ssl.create_default_context(cafile=str(self.certificates) if self.certificates else None)
        except OSError as failed:
            raise CliError(f"cannot read certificates from {self.certificates}: {failed}", ExitCode.USAGE) from failed
        context.check_hostname = not self.is_pinned
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=context)


def quoted(name: str) -> str:
    """A name as one part of a path."""
    return quote(name, safe="")


def checked_url(given: str) -> str:
    """A URL without a path. Raises CliError."""
    try:
        parts = urlsplit(given)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_good = False
    if not is_good or parts.path not in ("", "/") or parts.query or parts.username:
        raise CliError(
            f"cannot use URL {given[:200]!r}: it is no address of a control plane; give one such as http://127.0.0.1:7420",
            ExitCode.USAGE,
        )
    return given.rstrip("/")


def operator_token(file: Path | None, data_dir: Path) -> str:
    """The operator's token: in `file`, else the variable, else where a control plane of this machine keeps it."""
    if file is None and (given := os.environ.get(TOKEN_VARIABLE)):
        return _checked(given, TOKEN_VARIABLE)
    path = data_dir / "operator.token" if file is None else file
    try:
        with path.open() as opened:
            return _checked(opened.read(TOKEN_MAX), str(path))
    except PermissionError as refused:
        raise CliError(
            f"cannot read the operator token: {path} belongs to another user; run this as the control plane's user",
            ExitCode.REFUSED,
        ) from refused
    except (OSError, UnicodeDecodeError) as failed:
        raise CliError(
            f"cannot read the operator token: there is none in {path}; run `syntra-agent controlplane` first, or give "
            f"--data-dir, --token-file or {TOKEN_VARIABLE}",
            ExitCode.UNAVAILABLE,
        ) from failed


def _checked(given: str, place: str) -> str:
    token = given.strip()
    if not token or not token.isascii() or not token.isprintable():
        # Never with the value: it may be most of a token.
        raise CliError(
            f"cannot use the operator token in {place}: it is not one line of ASCII; check --token-file and "
            f"{TOKEN_VARIABLE}",
            ExitCode.USAGE,
        )
    return token
