"""Sealing: what it is made of, that it opens where it belongs, and nowhere else."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM

from metering.core.sealing import (
    SEAL_BYTES,
    Master,
    NotOpened,
    Sealed,
    Secret,
    by_id,
    context,
    derived,
    seal,
    unseal,
)

MASTER = Master("master-secret-of-forty-characters-0123456")
OTHER = Master("another-secret-of-forty-characters-012345")
BOUND = context("credential", "application", "credential", "openai", "")
RANDOM = bytes(range(SEAL_BYTES))
TEXT = "sk-proj-known-answer"
STORED = Sealed(
    bytes.fromhex(
        "202122232425262728292a2ba1518b001ef7702371122db9af359597a33e89ee073c07b6cf734243"
        "7759321f13a623c4"
    ),
    bytes.fromhex(
        "2c2d2e2f303132333435363753eae3e0a5acf36e0a1ed29a59adbcde05b8b81c8a921a8f8a9ce616"
        "1956ad74f3ee0bc83830699b9fbc8d73f5f24fe7"
    ),
    "b3e97590e93534d8",
)
"""TEXT as the first version stored it."""


def hkdf(secret: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 with SHA-256 and no salt, one block, in its own words."""
    extracted = hmac.digest(bytes(32), secret, hashlib.sha256)
    return hmac.digest(extracted, info + b"\x01", hashlib.sha256)[:length]


def opened(key: bytes, data: bytes, bound: bytes) -> bytes:
    """AES-256-GCM by another way into the library: nonce, ciphertext, tag."""
    cipher = Cipher(AES(key), GCM(data[:12], data[-16:])).decryptor()
    cipher.authenticate_additional_data(bound)
    return cipher.update(data[12:-16]) + cipher.finalize()


def test_what_is_stored_is_what_the_description_says() -> None:
    """A row key from the randomness seals the text, a key of the master secret's wraps that."""
    sealed = seal(Secret(TEXT), BOUND, MASTER, RANDOM)
    wrapping = hkdf(MASTER.secret, b"xproxy key wrapping v1", 32)
    assert opened(wrapping, sealed.key, BOUND) == RANDOM[:32]
    assert opened(RANDOM[:32], sealed.text, BOUND) == TEXT.encode()
    assert sealed.by == MASTER.id == hkdf(MASTER.secret, b"xproxy master secret id v1", 8).hex()
    assert (sealed.text[:12], sealed.key[:12]) == (RANDOM[32:44], RANDOM[44:56])


def test_what_was_stored_opens_for_ever() -> None:
    """What an older version sealed is byte for byte what this one seals, and opens here."""
    assert seal(Secret(TEXT), BOUND, MASTER, RANDOM) == STORED
    assert unseal(STORED, BOUND, Master(MASTER.secret.decode())).reveal() == TEXT


def test_a_context_is_told_from_every_other() -> None:
    """Where a part ends is part of it: no other parts, and no other purpose, give the same."""
    parts = [("a", "bc"), ("ab", "c"), ("abc",), ("abc", ""), ("", "abc"), ("a", "b", "c")]
    found = [context(purpose, *its) for purpose in ("one", "two") for its in parts]
    assert len(set(found)) == len(found)
    assert context("one", "é") == b"\0\0\0\x0dxproxy one v1\0\0\0\x02\xc3\xa9"


@pytest.mark.parametrize("text", ["", "s", TEXT, "ü" * 4000])
def test_what_is_sealed_opens(text: str) -> None:
    """The same text comes out; another's randomness makes another row of it."""
    first, second = (seal(Secret(text), BOUND, MASTER, bytes([n]) * SEAL_BYTES) for n in (1, 2))
    assert unseal(first, BOUND, MASTER).reveal() == unseal(second, BOUND, MASTER).reveal() == text
    assert first.text != second.text
    assert first.key != second.key


def test_wrapped_anew_the_text_is_the_same() -> None:
    """Another master secret opens it then, and the one before does not."""
    sealed = seal(Secret(TEXT), BOUND, MASTER, RANDOM)
    key = OTHER.wrap(MASTER.unwrap(sealed.key, BOUND), BOUND, bytes(12))
    rotated = Sealed(sealed.text, key, OTHER.id)
    assert unseal(rotated, BOUND, OTHER).reveal() == TEXT
    with pytest.raises(NotOpened):
        unseal(rotated, BOUND, MASTER)


def test_every_bit_counts() -> None:
    """Whichever bit of nonce, ciphertext or tag is another, of text or key: it does not open."""
    sealed = seal(Secret(TEXT), BOUND, MASTER, RANDOM)
    for name in ("text", "key"):
        whole: bytes = getattr(sealed, name)
        for bit in range(8 * len(whole)):
            number = int.from_bytes(whole, "big") ^ (1 << bit)
            values = {"text": sealed.text, "key": sealed.key, "by": sealed.by}
            values[name] = number.to_bytes(len(whole), "big")
            with pytest.raises(NotOpened):
                unseal(Sealed(**values), BOUND, MASTER)  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [0, 1, 11, 12, 13, 27, 28, 59])
def test_what_is_too_short_is_refused(length: int) -> None:
    """A row that was cut is no other fault than one that was altered."""
    sealed = seal(Secret(TEXT), BOUND, MASTER, RANDOM)
    for cut in (
        Sealed(sealed.text[: min(length, len(sealed.text) - 1)], sealed.key, sealed.by),
        Sealed(sealed.text, sealed.key[:length], sealed.by),
    ):
        with pytest.raises(NotOpened):
            unseal(cut, BOUND, MASTER)


@pytest.mark.parametrize("at", range(4))
def test_it_opens_where_it_belongs_alone(at: int) -> None:
    """Another application, credential, provider or origin: a row that was copied is useless."""
    parts = ["application", "credential", "openai", "https://a.example"]
    sealed = seal(Secret(TEXT), context("credential", *parts), MASTER, RANDOM)
    parts[at] += "x"
    with pytest.raises(NotOpened):
        unseal(sealed, context("credential", *parts), MASTER)
    with pytest.raises(NotOpened):
        unseal(sealed, context("secret", *parts), MASTER)


def test_two_rows_are_not_made_of_each_other() -> None:
    """The key of one does not open the text of another, though both are of one context."""
    first, second = (seal(Secret(TEXT), BOUND, MASTER, bytes([n]) * SEAL_BYTES) for n in (1, 2))
    with pytest.raises(NotOpened):
        unseal(Sealed(first.text, second.key, first.by), BOUND, MASTER)


def test_nothing_shows_a_secret() -> None:
    """Neither by itself nor in what holds it, nor does a master secret show more than its id."""
    secret = Secret(TEXT)
    assert (repr(secret), str(secret), f"{secret}", repr([secret])) == (
        "***",
        "***",
        "***",
        "[***]",
    )
    assert repr(MASTER) == f"Master({MASTER.id})"
    assert MASTER.secret.decode() not in repr(MASTER)


def test_master_secrets_are_found_by_id() -> None:
    """The id is the secret's alone, and says nothing of it."""
    assert by_id([OTHER, MASTER], MASTER.id) is MASTER
    assert by_id([OTHER], MASTER.id) is None
    assert len({MASTER.id, OTHER.id}) == 2


def test_what_was_derived_before_is_derived_still() -> None:
    """The digests of keys in older databases were made with it: it may never change."""
    assert derived(b"m" * 32, "key pepper").hex() == (
        hmac.new(b"m" * 32, b"xproxy key pepper v1", hashlib.sha256).hexdigest()
    )
