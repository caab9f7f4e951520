"""Calls with an `Idempotency-Key`: each is made once, and told again to whoever repeats it.

A key is claimed before anything is held, for the request that comes with it. While that call runs
a repetition is 409; once it has succeeded a repetition gets its answer, which costs nothing. A call
that failed and was not charged gives its key back. One of which nobody knows what became keeps it:
to make it again may be to pay twice, which its caller alone can decide, by another key.

Answers are kept in Redis for a day, sealed. Without Redis there is no telling, so such calls are
refused then.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from metering.core.record import UsageRow
from metering.core.sealing import NONCE_BYTES, Box
from metering.errors import Conflict, InvalidRequest, StoreAway
from metering.redis import SCRIPTS, Argument, Redis, share

HEADER = "Idempotency-Key"
KEY_CHARS_MAX = 255
KEPT_MS = 24 * 3_600_000
ANSWER_BYTES_MAX = 1024 * 1024
"""Larger answers are not kept."""
UNTIL_HELD_MS = 10_000
"""Longer than a call takes from its claim to its hold."""
REPLAYED = (b"xproxy-idempotent-replayed", b"true")


class Answer(NamedTuple):
    """What a client was told."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Claim(NamedTuple):
    """A key that a call has for itself."""

    entry: str


def checked(key: bytes) -> bytes:
    """An idempotency key as it came; raises InvalidRequest."""
    if not 0 < len(key) <= KEY_CHARS_MAX or not all(0x21 <= byte < 0x7F for byte in key):
        raise InvalidRequest(
            f"{HEADER} must be 1 to {KEY_CHARS_MAX} visible ASCII characters without spaces",
            field=HEADER,
        )
    return key


def fingerprint(*parts: bytes) -> bytes:
    """What tells one request from another."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


class Replays:
    """The answers of one worker's calls, kept where all workers find them."""

    def __init__(self, redis: Redis, secret: bytes, random: Callable[[int], bytes]) -> None:
        """`secret`: what answers are sealed under is derived from it."""
        self._redis = redis
        self._box = Box(secret, "answers")
        self._random = random

    async def claim(self, row: UsageRow, key: bytes, request: Sequence[bytes]) -> Claim | Answer:
        """A key for a call, or the answer of the one that had it; raises Conflict while that call
        runs or if its answer is lost, InvalidRequest if it was another request."""
        place = share(row.application_id)
        entry = place.replay(hashlib.sha256(key).hexdigest())
        record = place.record(row.request_id, row.attempt)
        arguments: list[Argument] = [fingerprint(*request), KEPT_MS, UNTIL_HELD_MS]
        reply = await self._redis.run(SCRIPTS["claim"], [entry, record], arguments)
        match reply[0]:
            case 0:
                return Claim(entry)
            case 1:
                return self._opened(entry, reply[1])
            case 2:
                raise Conflict(
                    f"a call with this {HEADER} is under way; repeat it when that has ended",
                    code="idempotency_in_flight",
                    field=HEADER,
                    retry_after_s=1,
                    should_retry=True,
                )
            case 3:
                raise InvalidRequest(
                    f"this {HEADER} was used for another request; use a new one",
                    code="idempotency_key_reused",
                    field=HEADER,
                    should_retry=False,
                )
        raise Conflict(
            f"the call with this {HEADER} has ended, and its answer was not kept: it may have been "
            "charged. To make it again, use a new one",
            code="idempotency_answer_lost",
            field=HEADER,
            should_retry=False,
        )

    async def keep(self, claim: Claim, answer: Answer) -> None:
        """Tell it again to whoever repeats the call, unless Redis is away by now."""
        plain = msgspec.msgpack.encode(answer)
        sealed = self._box.seal(plain, claim.entry.encode(), self._random(NONCE_BYTES))
        with contextlib.suppress(StoreAway):
            await self._redis.call("HSET", claim.entry, "answer", sealed)

    async def give_back(self, claim: Claim) -> None:
        """Let the next call with this key be made: this one used nothing."""
        with contextlib.suppress(StoreAway):
            await self._redis.call("DEL", claim.entry)

    def _opened(self, entry: str, sealed: bytes) -> Answer:
        plain = self._box.open(sealed, entry.encode())
        return msgspec.msgpack.decode(plain, type=Answer)
