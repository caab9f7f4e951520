"""Ids: of requests, those that callers choose, and the shard a tenant lives on. Clock and
randomness come in as arguments."""

from __future__ import annotations

import re
from uuid import UUID
from zlib import crc32

SHARDS = 64
CHOSEN = re.compile(r"[!-+\--:<-{}~]{1,128}")
"""An id that a caller chose: it travels in headers, where commas and spaces are between ids, and in
what scripts write, where semicolons and bars are. Those four it does not have, so that whatever can
be created can be named."""
CHOSEN_IS = "1 to 128 visible ASCII characters other than space , ; and |"
"""The same, for people."""


def uuid7(at_ms: int, random: bytes) -> UUID:
    """A UUIDv7 (RFC 9562) of a time in Unix milliseconds and 10 random bytes."""
    tail = int.from_bytes(random[:10], "big")
    value = (at_ms & (2**48 - 1)) << 80
    value |= 0x7 << 76 | (tail >> 62 & 0xFFF) << 64
    value |= 0b10 << 62 | tail & (2**62 - 1)
    return UUID(int=value)


def uuid7_text(at_ms: int, random: bytes) -> str:
    """The same as text, without the object."""
    tail = int.from_bytes(random[:10], "big")
    high = (at_ms & (2**48 - 1)) << 16 | 0x7 << 12 | (tail >> 62 & 0xFFF)
    low = 0b10 << 62 | tail & (2**62 - 1)
    high_hex, low_hex = f"{high:016x}", f"{low:016x}"
    return f"{high_hex[:8]}-{high_hex[8:12]}-{high_hex[12:]}-{low_hex[:4]}-{low_hex[4:]}"


def uuid7_ms(request_id: UUID) -> int:
    """The Unix milliseconds a UUIDv7 was made at."""
    return request_id.int >> 80


def uuid7_text_ms(request_id: str) -> int:
    """The same of a UUIDv7's text."""
    return int(request_id[:8] + request_id[9:13], 16)


def shard(application_id: str) -> int:
    """The shard (0..63) that holds everything of an application in Redis."""
    return crc32(application_id.encode()) % SHARDS
