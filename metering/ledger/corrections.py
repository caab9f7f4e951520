"""Corrections: what a call that has ended was charged is made good by one signed row, once."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from metering.core.money import split
from metering.core.record import NOW, UPSERT, WAS, UsageRow, decode_row, encode_row
from metering.core.restated import moves
from metering.ledger.counters import Counters
from metering.ledger.replies import (
    difference,
    format_charges,
    own_amounts,
    parse_charges,
    uncharged,
)
from metering.redis import SCRIPTS, share
from metering.store import requests as stored_requests
from metering.store import usage as stored_usage

PUT_BACK_TTL_MS = 15 * 60_000
"""How long a call that was put back waits for its correction."""


class Correction(NamedTuple):
    """What a correction charged, as the script wrote it, by how much the cost differs, and whether
    anything does: the cost, or what a limit with own rates is charged; its entry of the outbox."""

    charged: bytes
    pico: int
    differs: bool
    entry: bytes = b""


DONE_BEFORE = Correction(b"", 0, differs=False)


class Corrections(Counters):
    """What becomes of calls after their end."""

    async def call_of(
        self, application_id: str, category: str, provider_id: str
    ) -> UsageRow | None:
        """A call's row, corrections included, by the id in the provider's answer."""
        name = (category, provider_id)
        request_id = (await self.request_ids_of(self._store, application_id, [name])).get(name)
        if request_id is None:
            return None
        live = await self.record(application_id, request_id)
        if live is not None:
            return live[0]
        found = await stored_requests.by_request(self._store, application_id, request_id)
        return None if found is None else found.row

    async def amend(self, truth: UsageRow, tokens: int) -> None:
        """Make good, once, what a call that has ended was charged too much or too little."""
        if await self._correct("late", truth, tokens) is not None:
            return
        found = await stored_requests.by_request(
            self._store, truth.application_id, truth.request_id
        )
        if found is None or found.row.attempt != truth.attempt or not found.row.estimated:
            return
        await self._put_back("settled", found)
        await self._correct("late", truth, tokens)

    async def _put_back(self, status: str, found: stored_usage.Entry) -> None:
        """A call that Redis has forgotten, as its rows tell: for a correction to find. Never in
        place of one that is there: it may have been corrected meanwhile."""
        row = found.row
        record = share(row.application_id).record(row.request_id, row.attempt)
        fields: list[str | bytes | int]
        fields = [status, encode_row(row), format_charges(found.charges), PUT_BACK_TTL_MS]
        await self._redis.run(SCRIPTS["restore"], [record], fields)

    async def reprice(
        self, run: str, call: stored_usage.Entry, truth: UsageRow, at_ms: int
    ) -> Correction:
        """Charge a call what it costs by other prices, once a run.

        `call` is as its rows tell. They must have been read less than a mark's life ago: of a call
        that Redis has forgotten nothing has changed since then.
        """
        return await self._corrected(f"reprice:{run}", call, truth, None, at_ms)

    async def reconcile(
        self, run: str, call: stored_usage.Entry, truth: UsageRow, tokens: int
    ) -> Correction:
        """Charge a call what it cost by a better witness than its row, once a run."""
        return await self._corrected(f"reconcile:{run}", call, truth, tokens, None)

    async def restate(
        self, run: str, call: stored_usage.Entry, truth: UsageRow, tokens: int, at_ms: int
    ) -> Correction:
        """Have a call that was reported be as a later report has it, once a run."""
        return await self._corrected(f"{UPSERT}{run}", call, truth, tokens, at_ms)

    async def _corrected(
        self,
        entry: str,
        call: stored_usage.Entry,
        truth: UsageRow,
        tokens: int | None,
        at_ms: int | None,
    ) -> Correction:
        given = (entry, truth, tokens, at_ms)
        done = await self._correct(*given)
        if done is None:
            await self._put_back("settled", call)
            done = await self._correct(*given)
        return DONE_BEFORE if done is None else done

    async def _correct(
        self, entry: str, row: UsageRow, tokens: int | None, at_ms: int | None = None
    ) -> Correction | None:
        """One signed row makes good the difference between a call and the truth about it.

        Without `tokens` they are as charged before. Gives what it charged: nothing if that was done
        before. None: Redis does not know the call.
        """
        place = share(row.application_id)
        record = place.record(row.request_id, row.attempt)
        while True:
            before, charged, times = await self._redis.call(
                "HMGET", record, "row", "lim", "corrected"
            )
            if before is None or charged is None:
                return None
            delta = difference(row, decode_row(before), entry)
            said, taken_back = _entries(entry, decode_row(before), row, delta, at_ms)
            charges = parse_charges(charged)
            before_tokens = next((it.amount for it in charges if it.unit == "tokens"), 0)
            limit_ids = [it.limit_id for it in charges]
            reply = await self._redis.run(
                SCRIPTS["correct"],
                [record, place.outbox, place.generation, *place.limits(limit_ids)],
                [
                    entry,
                    said,
                    encode_row(row),
                    *split(row.cost_pico),
                    *split(delta.output_pico),
                    before_tokens if tokens is None else tokens,
                    times or 0,
                    own_amounts(
                        {
                            it: (sum(row.cost_for(it)), output)
                            for it, (_, output) in delta.limit_costs.items()
                        }
                    ),
                    taken_back,
                    *limit_ids,
                ],
            )
            if reply[0] == 3:
                continue
            if reply[0] == -1:  # its row has landed a moment ago
                return None
            if reply[0] != 1:
                return DONE_BEFORE
            differs = delta.cost_pico != 0 or any(map(any, delta.limit_costs.values()))
            return Correction(reply[1], delta.cost_pico, differs, reply[3])


def _entries(
    name: str, before: UsageRow, truth: UsageRow, delta: UsageRow, at_ms: int | None
) -> tuple[bytes, bytes]:
    """The row of a correction, and the one that takes the call back where that moves."""
    taken_back = None
    if name.startswith(UPSERT) and moves(before, truth):
        taken_back = difference(uncharged(before), before, name + WAS)
        delta = msgspec.structs.replace(truth, entry=name + NOW)
    if at_ms is not None:
        delta = msgspec.structs.replace(delta, at_ms=at_ms)
        taken_back = taken_back and msgspec.structs.replace(taken_back, at_ms=at_ms)
    return encode_row(delta), encode_row(taken_back) if taken_back else b""
