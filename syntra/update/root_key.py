"""The public root keys of the product's releases, compiled in.

The private keys stay offline, so the people who hold them fill in this tuple: `scripts/release-sign new-key` prints
each public key. A build without root keys installs nothing, except from a mirror whose root keys the operator names in
`update.root_keys_file`.
"""

from __future__ import annotations

ROOT_KEYS: tuple[str, ...] = ()
"""Base64 of 32 bytes each; two, so that losing one does not end updates."""
