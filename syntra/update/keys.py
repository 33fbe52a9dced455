"""Who may sign releases: root keys sign the list of release keys, release keys sign manifests. Pure.

`keys.json` is signed by a root key, which stays offline. It names the release keys, each with the time until which it
may sign, and the ids of revoked ones. Its serial number only grows, so an old list cannot bring a revoked key back
(The Update Framework specification, section 5.3: root metadata). A signature file has one line for each signature:

    <id of the key> <base64 of the 64 bytes of an Ed25519 signature, RFC 8032>

The signature is over the exact bytes of the file beside it. An id is the first 16 hexadecimal digits of the SHA-256 of
the 32 bytes of the public key. Lines by unknown keys are skipped: during a rotation a file has two.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence

from syntra.update.fields import Document, Malformed
from syntra.utils.frozen import frozen

SIGNATURES_MAX = 16
KEYS_MAX = 64
_KEY_ID = r"[0-9a-f]{16}"
_PUBLIC_KEY = r"[A-Za-z0-9+/]{43}="


class NotSigned(Exception):
    """No valid signature by a key that may sign; the text says why."""


@frozen
class PublicKey:
    """An Ed25519 public key: its 32 bytes."""

    raw: bytes

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """From the base64 of its bytes; raises ValueError."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        raw = base64.b64decode(text, validate=True)
        Ed25519PublicKey.from_public_bytes(raw)
        return cls(raw=raw)

    @property
    def text(self) -> str:
        """The base64 of its bytes."""
        return base64.b64encode(self.raw).decode()

    @property
    def key_id(self) -> str:
        """How signature files and lists name it."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def has_signed(self, data: bytes, signature: bytes) -> bool:
        """Whether the signature over exactly these bytes is this key's."""
        # Imported where it is used: it takes 9 MB, and an agent that does not update needs none of it.
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, data)
        except InvalidSignature:
            return False
        return True


@frozen
class ReleaseKey:
    """A key that may sign manifests until `expires` (seconds since the epoch)."""

    key: PublicKey
    expires: float


@frozen
class KeyList:
    """The release keys in force."""

    serial: int
    expires: float
    keys: tuple[ReleaseKey, ...]
    revoked: frozenset[str]

    def usable(self, now: float) -> tuple[PublicKey, ...]:
        """The keys that may sign now."""
        return tuple(one.key for one in self.keys if one.expires > now and one.key.key_id not in self.revoked)


def require_signature(name: str, data: bytes, signatures: bytes, keys: Sequence[PublicKey]) -> PublicKey:
    """The key that has signed `data`. Raises NotSigned; `name` is what the sentence calls the file."""
    by_id = {key.key_id: key for key in keys}
    known = False
    for key_id, signature in _signatures(name, signatures).items():
        key = by_id.get(key_id)
        if key is None:
            continue
        known = True
        if key.has_signed(data, signature):
            return key
    if known:
        raise NotSigned(f"the signature of {name} is wrong")
    raise NotSigned(f"{name} is not signed by a key that this agent trusts")


def parse_keys(data: bytes) -> KeyList:
    """The list, once its signature is verified. Raises Malformed."""
    document = Document.parse(data, "keys.json")
    return KeyList(
        serial=document.integer("serial", low=1, high=2**53),
        expires=document.moment("expires"),
        keys=tuple(
            ReleaseKey(key=_public_key(one), expires=one.moment("expires"))
            for one in document.objects("keys", at_most=KEYS_MAX)
        ),
        revoked=frozenset(document.texts("revoked", _KEY_ID, at_most=1000)),
    )


def _public_key(entry: Document) -> PublicKey:
    try:
        return PublicKey.parse(entry.text("public_key", _PUBLIC_KEY))
    except ValueError as broken:
        if isinstance(broken, Malformed):
            raise
        raise Malformed("keys.json: a public_key is invalid") from broken


def _signatures(name: str, text: bytes) -> Mapping[str, bytes]:
    found = {}
    for line in text.splitlines()[:SIGNATURES_MAX]:
        key_id, _, encoded = line.partition(b" ")
        try:
            found[key_id.decode("ascii")] = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, UnicodeDecodeError):
            raise NotSigned(f"the signature file of {name} is damaged") from None
    return found
