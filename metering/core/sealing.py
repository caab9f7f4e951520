"""Secrets at rest: AES-256-GCM under a key of their own, which a master secret wraps.

    secret  --AES-256-GCM, row key-------------> Sealed.text
    row key --AES-256-GCM, HKDF(master secret)-> Sealed.key, of the master secret Sealed.by

Both are bound to a context, such as whose secret it is and where it may go: what is moved to
another place does not open. Rotating the master secret wraps the row keys anew and touches no text.
A master secret is known by an id that is derived from it, so that processes which hold several
find the right one. Randomness comes in as an argument.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from metering.errors import OurFault

KEY_BYTES = 32
NONCE_BYTES = 12
SEAL_BYTES = KEY_BYTES + 2 * NONCE_BYTES
"""How much randomness `seal` takes."""
ID_BYTES = 8


class NotOpened(OurFault):
    """A stored secret cannot be opened: it was altered, or moved."""


@final
class Secret:
    """A text that no log, trace or answer shows by accident."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __repr__(self) -> str:
        return "***"


class Sealed(msgspec.Struct, frozen=True):
    """A secret as it is stored."""

    text: bytes
    """Nonce, ciphertext, tag."""
    key: bytes
    """The row key, wrapped: nonce, ciphertext, tag."""
    by: str
    """The id of the master secret that wraps it."""


@final
class Master:
    """A master secret, which wraps keys."""

    __slots__ = ("_wrapping", "id", "secret")

    def __init__(self, secret: str) -> None:
        self.secret = secret.encode()
        self.id = _expand(self.secret, "master secret id", ID_BYTES).hex()
        self._wrapping = AESGCM(_expand(self.secret, "key wrapping", KEY_BYTES))

    def __repr__(self) -> str:
        return f"Master({self.id})"

    def wrap(self, key: bytes, context: bytes, nonce: bytes) -> bytes:
        """A key as it is stored."""
        return nonce + self._wrapping.encrypt(nonce, key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """The key; raises NotOpened."""
        return _decrypt(self._wrapping, wrapped, context)


@final
class Box:
    """What keeps passing things secret, under a key derived from one of ours."""

    __slots__ = ("_cipher",)

    def __init__(self, secret: bytes, purpose: str) -> None:
        self._cipher = AESGCM(_expand(secret, purpose, KEY_BYTES))

    def seal(self, plain: bytes, bound_to: bytes, nonce: bytes) -> bytes:
        """Nonce, ciphertext, tag."""
        return nonce + self._cipher.encrypt(nonce, plain, bound_to)

    def open(self, sealed: bytes, bound_to: bytes) -> bytes:
        """What was sealed; raises NotOpened."""
        return _decrypt(self._cipher, sealed, bound_to)


def context(purpose: str, *parts: str) -> bytes:
    """What a secret is bound to, in a form that no other purpose and parts have."""
    texts = [f"xproxy {purpose} v1".encode(), *(part.encode() for part in parts)]
    return b"".join(len(text).to_bytes(4, "big") + text for text in texts)


def seal(secret: Secret, bound_to: bytes, master: Master, random: bytes) -> Sealed:
    """A secret as it is stored, with SEAL_BYTES of randomness."""
    key, rest = random[:KEY_BYTES], random[KEY_BYTES:SEAL_BYTES]
    nonce, wrapping_nonce = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
    text = nonce + AESGCM(key).encrypt(nonce, secret.reveal().encode(), bound_to)
    return Sealed(text, master.wrap(key, bound_to, wrapping_nonce), master.id)


def unseal(sealed: Sealed, bound_to: bytes, master: Master) -> Secret:
    """The secret; raises NotOpened."""
    key = master.unwrap(sealed.key, bound_to)
    return Secret(_decrypt(AESGCM(key), sealed.text, bound_to).decode())


def derived(secret: bytes, purpose: str) -> bytes:
    """What installations had in place of random keys, before those were stored wrapped."""
    return hmac.digest(secret, f"xproxy {purpose} v1".encode(), hashlib.sha256)


def by_id(masters: Sequence[Master], name: str) -> Master | None:
    """The master secret of an id."""
    return next((master for master in masters if master.id == name), None)


def _expand(secret: bytes, purpose: str, length: int) -> bytes:
    return HKDF(SHA256(), length, salt=None, info=f"xproxy {purpose} v1".encode()).derive(secret)


def _decrypt(cipher: AESGCM, data: bytes, bound_to: bytes) -> bytes:
    try:
        return cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], bound_to)
    except (InvalidTag, ValueError):  # a ValueError: too short to be any
        raise NotOpened(should_retry=False) from None
