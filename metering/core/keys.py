"""The format of our API keys: `sk-xproxy-<role>-<43 base62 of 256 bits><6 base62 of CRC32>`.

The prefix and checksum let secret scanners find a leaked key without asking us, and let us tell
our keys from a provider's by looking, so that ours may stand in a provider's slot and never goes
upstream. Only `HMAC-SHA256(pepper, key)` is stored.

Keys that were brought along from LiteLLM go on working. Of those nobody has more than their hash,
so stored is `HMAC-SHA256(pepper, sha256hex(key))`. They have no format but `sk-`: one is looked for
only where no key of ours is shown.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from zlib import crc32

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ROLES = ("admin", "app", "read")
ANONYMOUS = "anonymous"
"""Not in our format, so that nobody can show it: what stands for those who show no key of ours."""
PLACEHOLDER_CHARS_MAX = 31
"""Keys of providers are longer; what is not, such as `sk-anything`, stands for want of one."""
FOREIGN_PREFIX = "sk-"
FOREIGN_CHARS_MAX = 512
LITELLM_HASH = re.compile(r"[0-9a-f]{64}")
"""What LiteLLM stores of a key: its SHA-256."""
PATTERN = re.compile(r"sk-xproxy-(admin|app|read)-([0-9A-Za-z]{43})([0-9A-Za-z]{6})")


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def make_key(role: str, random: bytes) -> str:
    """A key of a role from 32 random bytes."""
    body = f"sk-xproxy-{role}-{_base62(int.from_bytes(random[:32], 'big'), 43)}"
    return body + _base62(crc32(body.encode()), 6)


def is_ours(key: str) -> bool:
    """Whether a string has our format and its checksum holds."""
    match = PATTERN.fullmatch(key)
    return match is not None and key[-6:] == _base62(crc32(key[:-6].encode()), 6)


def looks_ours(key: str) -> bool:
    """Whether a string begins like one of our keys: it never goes upstream, valid or not."""
    return key.startswith("sk-xproxy-")


def may_be_litellms(key: str) -> bool:
    """Whether a string may be a key that was brought along from LiteLLM; providers' may, too."""
    return key.startswith(FOREIGN_PREFIX) and not looks_ours(key) and len(key) <= FOREIGN_CHARS_MAX


def litellm_hash(key: str) -> str:
    """What LiteLLM stores of a key, see `LITELLM_HASH`."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def digest(pepper: bytes, key: str) -> bytes:
    """What is stored of a key of ours, or by LiteLLM's hash of one of its: 32 bytes.

    The two are never taken for each other: a hash has no format that is looked for.
    """
    return hmac.digest(pepper, key.encode(errors="surrogatepass"), hashlib.sha256)


def digest_of(pepper: bytes, key: str) -> bytes:
    """By what a key is found that somebody shows, whoever made it."""
    return digest(pepper, litellm_hash(key) if may_be_litellms(key) else key)


LOCAL_TOKEN_TTL_S = 60
"""How long a local token is good for, either way of the server's clock."""
LOCAL_TOKEN = re.compile(r"local\.([0-9]{1,12})\.([0-9a-f]{64})")


def local_token(secret: bytes, at_s: int) -> str:
    """A token that proves, for a minute, that its maker can read the master secret.

    The commands on the service's own machine show it in place of an admin key.
    """
    derived = hmac.digest(secret, b"xproxy local token v1", hashlib.sha256)
    signature = hmac.digest(derived, str(at_s).encode(), hashlib.sha256)
    return f"local.{at_s}.{signature.hex()}"


def local_token_valid(secret: bytes, token: str, now_s: int) -> bool:
    """Whether a token is one of `local_token`'s and not older (or newer) than its lifetime."""
    match = LOCAL_TOKEN.fullmatch(token)
    if match is None or abs(now_s - int(match[1])) > LOCAL_TOKEN_TTL_S:
        return False
    return hmac.compare_digest(token, local_token(secret, int(match[1])))
