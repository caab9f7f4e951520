"""What Redis has of an application in one moment, what it should have, and how it is made good.

While a moment is looked at, Postgres takes no rows (`store.books`): what counters were charged is
then in rows that landed before, or in the outbox, and nowhere twice once these are united by key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from metering.core.difference import AMOUNTS, Difference, Pair
from metering.core.limits import STATES, Totals, Unit
from metering.core.money import usd
from metering.core.record import decode_row
from metering.ledger.replies import (
    amount,
    blocked,
    fields_of,
    pair,
    parse_charges,
    parse_refusals,
    parts_of,
    totals_of,
    totals_parts,
    what_is,
)
from metering.redis import SCRIPTS, Redis, share
from metering.store.rows import Landed

SETTLED = ("settled", "settled_input", "settled_output")
HELD = ("held_likely", "held_ceiling", "holds")
ALL_OF_IT = "-"
"""Before the first entry of an outbox."""
ENTRIES_AT_ONCE = 1_000
ENDED = -4
"""What scripts answer who names a generation that has ended."""


class Live(NamedTuple):
    """A limit as Redis has it."""

    unit: Unit
    totals: Totals
    members: frozenset[str]
    """Its holds by the records of their calls."""
    first: int
    last: int
    """Of the epochs that count in it: its own, or those of a rolling window's parts."""
    closed: bool = False
    """Whether its counters are being rebuilt."""
    parts: Mapping[int, Totals] = MappingProxyType({})
    """What a rolling window counts, by epoch."""

    @property
    def rolling(self) -> bool:
        """Whether its window is a rolling one."""
        return self.last != self.totals.epoch

    def counts(self, epoch: int) -> bool:
        """Whether what came in in an epoch is in the counters."""
        return self.first <= epoch <= self.last

    def holds(self, epoch: int) -> bool:
        """Whether what a call of that epoch holds is: a rolling window keeps it until it ends."""
        return self.totals.epoch <= epoch <= self.last


class Moment(NamedTuple):
    """What Redis has of an application."""

    now_ms: int
    waiting: list[Landed]
    """Rows that wait for Postgres."""
    unreadable: int
    limits: dict[str, Live]
    alive: frozenset[str]
    """Records of calls that would be ended if their worker fell silent."""
    held: dict[str, list[list[str]]]
    """Calls in flight: record to what it holds of each limit, as the scripts write it."""


async def inspect(
    redis: Redis,
    application_id: str,
    limit_ids: Sequence[str],
    suspects: Iterable[str] = (),
    *,
    after: str = ALL_OF_IT,
) -> Moment:
    """The present moment; `suspects` are records that may be in no set.

    Of the rows that wait those are in it that came `after` an entry of the outbox.
    """
    place = share(application_id)
    reply = await redis.run(
        SCRIPTS["inspect"],
        [place.holds, place.outbox, *place.limits(limit_ids), *suspects],
        [len(limit_ids), place.record_prefix, after],
    )
    now_ms, entries, limits, alive, records = reply
    waiting, unreadable = _rows(application_id, entries)
    return Moment(
        now_ms=int(now_ms),
        waiting=waiting,
        unreadable=unreadable,
        limits={
            limit_id: _live(fields)
            for limit_id, fields in zip(limit_ids, limits, strict=True)
            if fields[0] is not None
        },
        alive=frozenset(name.decode() for name in alive),
        held={
            name.decode(): [part.split("|") for part in shares.decode().split(";")[:-1]]
            for name, status, shares in records
            if status == b"held"
        },
    )


async def waiting_rows(redis: Redis, application_id: str) -> tuple[list[Landed], str]:
    """An application's rows that wait for Postgres, but for the latest; and after which entry these
    come. Read in parts, so that they may be many: no row may land meanwhile."""
    rows: list[Landed] = []
    last = ALL_OF_IT
    while True:
        start = last if last == ALL_OF_IT else f"({last}"
        name = share(application_id).outbox
        entries = await redis.call("XRANGE", name, start, "+", "COUNT", ENTRIES_AT_ONCE)
        if len(entries) < ENTRIES_AT_ONCE:
            return rows, last
        rows += _rows(application_id, entries)[0]
        last = entries[-1][0].decode()


def _live(fields: Sequence[Any]) -> Live:
    """A limit from what the script says of it, in its order."""
    what, counters, members, first, last, parts = fields
    mode, unit, _ = what_is(what)
    return Live(
        unit,
        totals_of({b"is": what, b"cnt": counters}),
        frozenset(it.decode() for it in members),
        int(first),
        int(last),
        closed=mode == "closed",
        parts=parts_of(unit, fields_of(parts)),
    )


def _rows(application_id: str, entries: Sequence[Sequence[object]]) -> tuple[list[Landed], int]:
    """The application's rows in an outbox, and how many of anybody's cannot be read."""
    rows: list[Landed] = []
    unreadable = 0
    for _, fields in entries:
        _, kind, _, row, _, charges, *why = fields  # type: ignore[misc]
        try:
            read = decode_row(row)  # type: ignore[has-type]
            if read.application_id != application_id:
                continue
            if kind == b"blocked":  # type: ignore[has-type]
                read = blocked(read, parse_refusals(why[1] if why else None))  # type: ignore[has-type]
            rows.append((read, parse_charges(charges)))  # type: ignore[has-type]
        except (msgspec.DecodeError, ValueError):
            unreadable += 1
    return rows, unreadable


def plus(before: Totals, limit_id: str, live: Live, rows: Iterable[Landed]) -> Totals:
    """Totals with what more rows charged the limit in the same life, as `land_usage` adds it."""
    unit = live.unit
    amounts = {name: getattr(before, name) for name in SETTLED}
    counts = {state: before.counts.get(state, 0) for state in STATES}
    for row, charges in rows:
        for charge in charges:
            if (charge.limit_id, charge.unit) != (limit_id, unit) or not live.counts(charge.epoch):
                continue
            amounts["settled"] += charge.amount
            if unit == "usd":
                own = row.limit_costs.get(limit_id)
                output = own[1] if own else row.cost_pico - row.input_pico
                amounts["settled_input"] += charge.amount - output
                amounts["settled_output"] += own[1] if own else row.output_pico
            if row.entry == "call":
                counts[charge.state] += 1
    return msgspec.structs.replace(before, **amounts, counts=counts)


def holding(
    before: Totals, limit_id: str, live: Live, held: Mapping[str, list[list[str]]]
) -> Totals:
    """Totals with what calls in flight hold of the limit."""
    likely = ceiling = holds = 0
    for shares in held.values():
        for its, epoch, unit, _, lw, lp, cw, cp in shares:
            if its == limit_id and live.holds(int(epoch)):
                likely += amount(unit, int(lw), int(lp))  # type: ignore[arg-type]
                ceiling += amount(unit, int(cw), int(cp))  # type: ignore[arg-type]
                holds += 1
    return msgspec.structs.replace(before, held_likely=likely, held_ceiling=ceiling, holds=holds)


def holders(limit_id: str, live: Live, held: Mapping[str, list[list[str]]]) -> frozenset[str]:
    """Records of the calls in flight that hold something of a limit."""
    return frozenset(
        record
        for record, shares in held.items()
        if any(share[0] == limit_id and live.holds(int(share[1])) for share in shares)
    )


def limit_differences(
    application_id: str, limit_id: str, live: Live, expected: Totals, moment: Moment
) -> list[Difference]:
    """Where a limit's live counters, and the set of its holds, are not what they should be."""
    members: dict[str, Any] = {
        "application_id": application_id,
        "about": limit_id,
        "unit": live.unit,
    }
    found = []
    # a reset of one on calls at once keeps its life, for who runs still runs: it counts from there
    counted = {} if live.unit == "concurrent" else _counted(live.totals, expected)
    if counted:
        told = ", ".join(f"{name} {_more(it, name, live.unit)}" for name, it in counted.items())
        found.append(
            Difference(
                kind="counter",
                numbers=counted,
                cause="the live counters are not what rows charged, those that have landed and "
                f"{len(moment.waiting)} that wait: {told}",
                repair="added to the counters what they lacked",
                **members,
            )
        )
    held = _pairs(live.totals, expected, HELD)
    right = holders(limit_id, live, moment.held)
    names = {
        "names_of_ended": Pair(len(live.members - right), 0),
        "names_missing": Pair(len(right - live.members), 0),
    }
    held |= {name: it for name, it in names.items() if it.found}
    if held:
        told = ", ".join(f"{name} {_more(it, name, live.unit)}" for name, it in held.items())
        found.append(
            Difference(
                kind="hold",
                numbers=held,
                cause=f"what is held is not what the {expected.holds} calls in flight hold: {told}",
                repair="added up anew what calls in flight hold",
                **members,
            )
        )
    return found


def _counted(found: Totals, expected: Totals) -> dict[str, Pair]:
    pairs = {name: Pair(found.counts.get(name, 0), expected.counts.get(name, 0)) for name in STATES}
    differing = {str(name): it for name, it in pairs.items() if it.found != it.expected}
    return _pairs(found, expected, SETTLED) | differing


def _pairs(found: Totals, expected: Totals, names: Iterable[str]) -> dict[str, Pair]:
    pairs = {name: Pair(getattr(found, name), getattr(expected, name)) for name in names}
    return {name: it for name, it in pairs.items() if it.found != it.expected}


def _more(pair_: Pair, name: str, unit: Unit) -> str:
    by = abs(pair_.found - pair_.expected)
    money = unit == "usd" and name in AMOUNTS
    told = f"${usd(by):f}" if money else str(by)
    return f"{told} too {'much' if pair_.found > pair_.expected else 'little'}"


def lack(differing: Mapping[str, Pair]) -> Totals:
    """What live counters lack, as totals: in a rolling window it counts from now."""
    by = {name: it.expected - it.found for name, it in differing.items()}
    amounts = {name: by.get(name, 0) for name in (*SETTLED, *HELD)}
    return Totals(epoch=0, counts={it: by.get(it, 0) for it in STATES}, **amounts)


async def mend(
    redis: Redis,
    application_id: str,
    limit_id: str,
    live: Live,
    lacks: Sequence[Totals],
    *,
    generation: str = "",
    opens: bool = False,
) -> int:
    """Add to a limit's live counters what they lack, whatever calls do meanwhile; 1: done.

    `opens`: they are whole then. 0: it has begun to count anew meanwhile. ENDED: Redis has lost
    what it knew in that generation.
    """
    place = share(application_id)
    return int(
        await redis.run(
            SCRIPTS["mend"],
            [place.limit(limit_id), place.generation],
            [
                live.totals.epoch,
                generation,
                int(opens),
                *pair(live.unit, sum(it.held_likely for it in lacks)),
                *pair(live.unit, sum(it.held_ceiling for it in lacks)),
                sum(it.holds for it in lacks),
                *(part for it in lacks for part in totals_parts(live.unit, it)),
            ],
        )
    )


async def name_holders(
    redis: Redis, application_id: str, limit_id: str, live: Live, moment: Moment
) -> None:
    """Have the set of a limit's holds name the calls that hold something of it."""
    name = share(application_id).limit(limit_id) + ";h"
    right = holders(limit_id, live, moment.held)
    for record in live.members - right:
        await redis.call("ZREM", name, record)
    for record in right - live.members:
        await redis.call("ZADD", name, moment.now_ms, record)
        if await redis.call("HGET", record, "st") != b"held":  # it has just ended
            await redis.call("ZREM", name, record)


def strays(application_id: str, moment: Moment) -> list[Difference]:
    """Calls in flight that nobody would end, and names of holds whose call has ended."""
    found = [
        Difference(
            kind="record",
            application_id=application_id,
            about=record,
            cause="the call holds what it may cost, but has no deadline: if its worker fell "
            "silent, it would hold it for ever",
            repair="gave it a deadline: the reaper ends it, unless its worker still does",
        )
        for record in sorted(moment.held.keys() - moment.alive)
    ]
    found += [
        Difference(
            kind="orphan",
            application_id=application_id,
            about=record,
            cause="it has a deadline, but there is no such call in flight: its record is gone",
            repair="took it out of the set of holds",
        )
        for record in sorted(moment.alive - moment.held.keys())
    ]
    return found
