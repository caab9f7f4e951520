"""Corrections: what a call that has ended was charged is made good by one signed row, once."""

from __future__ import annotations

from collections.abc import Sequence

from metering.core.limits import Charge
from metering.core.money import split
from metering.core.record import UsageRow, decode_row, encode_row
from metering.ledger.counters import Counters
from metering.ledger.replies import difference, format_charges, parse_charges
from metering.redis import SCRIPTS, share
from metering.store import requests as stored_requests
from metering.store import usage as stored_usage


class Corrections(Counters):
    """What becomes of calls after their end."""

    async def call_of(
        self, application_id: str, category: str, provider_id: str
    ) -> UsageRow | None:
        """A call's row, corrections included, by the id in the provider's answer."""
        request_id = await self.request_id_of(application_id, category, provider_id)
        live = None if request_id is None else await self.record(application_id, request_id)
        if live is not None:
            return live[0]
        found = await stored_requests.by_provider(
            self._store, application_id, category, provider_id
        )
        return None if found is None else found.row

    async def amend(self, truth: UsageRow, tokens: int) -> None:
        """Make good, once, what a call that has ended was charged too much or too little."""
        record = share(truth.application_id).record(truth.request_id, truth.attempt)
        if not await self._redis.call("EXISTS", record):
            found = await stored_requests.by_request(
                self._store, truth.application_id, truth.request_id
            )
            if found is None or found.row.attempt != truth.attempt or not found.row.estimated:
                return
            await self._put_back(record, "settled", found)
        charged = await self._redis.call("HGET", record, "lim")
        await self._correct("late", truth, parse_charges(charged or b""), tokens)

    async def _put_back(self, record: str, status: str, found: stored_usage.Entry) -> None:
        """A call that Redis has forgotten, as its rows tell: for a correction to find."""
        fields = ("row", encode_row(found.row), "lim", format_charges(found.charges))
        await self._redis.call("HSET", record, "st", status, *fields)

    async def _correct(
        self, entry: str, row: UsageRow, charged: Sequence[Charge], tokens: int
    ) -> bytes:
        """The truth of an expired call came late: one signed row makes the difference good."""
        place = share(row.application_id)
        record = place.record(row.request_id, row.attempt)
        before = decode_row(await self._redis.call("HGET", record, "row"))
        delta = difference(row, before, entry)
        reply = await self._redis.run(
            SCRIPTS["correct"],
            [record, place.outbox, *(place.limit(it.limit_id) for it in charged)],
            [
                entry,
                encode_row(delta),
                encode_row(row),
                *split(row.cost_pico),
                *split(row.input_pico),
                *split(row.output_pico),
                tokens,
                *(it.limit_id for it in charged),
            ],
        )
        corrected: bytes = reply[1] if reply[0] == 1 else b""
        return corrected
