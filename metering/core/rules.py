"""What limits decide and charge, as pure functions on an application's books: the specification.

The laws and the tables of what becomes of calls and counters are in `core.limits`. The scripts in
`redis/lua` are the twin: they do the same to counters that all workers share, and
`tests/ledger/machine.py` drives both side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec.structs import replace

from metering.core.books import (
    NOTHING,
    Books,
    Call,
    Kind,
    Live,
    Share,
    Status,
    Used,
    age,
    begin,
    define,
    present,
)
from metering.core.limits import Bounds, Charge, Floor, Limit, Refusal, State, Totals, Unit
from metering.core.windows import PARTS

Verb = Literal["settle", "release", "expire"]


def state_after(settled: int, limit: Limit) -> State:
    """The state a successful call leaves a limit in."""
    if settled > limit.max:
        return "overrun"
    return "exceeded" if settled >= limit.threshold else "ok"


def held(limit: Limit, totals: Totals) -> int:
    """What calls in flight count with: what they may cost under a hard cap, else what they likely
    do."""
    return totals.held_ceiling if limit.mode == "hard" else totals.held_likely


def needed(limit: Limit, ceiling: int) -> int:
    """What a call must find room for itself."""
    if limit.unit in ("requests", "concurrent"):
        return 1
    return ceiling if limit.mode == "hard" else 0


# Reserve


def reserve(
    books: Books,
    call_id: str,
    limits: Sequence[Limit],
    bounds: Bounds,
    *,
    now_ms: int,
    ends_ms: int,
    deadline_ms: int,
) -> tuple[Books, tuple[Refusal, ...]]:
    """Decide and hold all limits of a call, all or nothing; gives what refuses it."""
    for limit in limits:
        if limit.limit_id not in books.limits:  # not loaded is not the same as no limit
            books = define(books, limit, now_ms)
    lives = [present(books.limits[it.limit_id], now_ms) for it in limits]
    books = books.put(*lives)
    refusals = tuple(it for live in lives if (it := refusal(live, bounds, now_ms)) is not None)
    if refusals:
        return refuse(books, call_id, lives, {it.limit_id for it in refusals}, now_ms), refusals
    shares = {it.limit.limit_id: _share(it, bounds, now_ms, ends_ms) for it in lives}
    call = Call(status="held", shares=shares, deadline_ms=deadline_ms)
    taken = [replace(it, holds={**it.holds, call_id: shares[it.limit.limit_id]}) for it in lives]
    return books.put(*taken).note(call_id, call), ()


def refusal(live: Live, bounds: Bounds, now_ms: int) -> Refusal | None:
    """Why a limit has no room for a call; None: it has."""
    limit, totals = live.limit, live.totals
    epoch = live.into(now_ms)
    found = Refusal(
        limit_id=limit.limit_id,
        epoch=epoch,
        unit=limit.unit,
        mode=limit.mode,
        max=limit.max,
        settled=totals.settled,
        held=held(limit, totals),
        needed=needed(limit, amounts_held(limit, bounds)[1]),
        holds=totals.holds,
        resets_at_ms=limit.resets_ms(epoch),
    )
    if not limit.binding or found.missing <= 0:
        return None
    if found.final and live.part_ms:
        return replace(found, resets_at_ms=room_ms(live, found.settled + found.needed))
    return found


def room_ms(live: Live, used: int) -> int | None:
    """When so much has left a rolling window that what is used of it is no more than max; None: it
    is what the call needs itself."""
    for epoch in sorted(live.parts):
        used -= live.parts[epoch].settled
        if used <= live.limit.max:
            return (epoch // live.part_ms + PARTS + 1) * live.part_ms
    return None


def refuse(
    books: Books, call_id: str, lives: Iterable[Live], blocking: set[str], now_ms: int
) -> Books:
    """A refusal holds and charges nothing; it is counted, by those that block and by the others."""
    charges, counted = [], []
    for live in lives:
        limit, epoch = live.limit, live.into(now_ms)
        what: State = "blocked" if limit.limit_id in blocking else "blocked_external"
        charges.append(Charge(limit.limit_id, epoch, limit.unit, 0, what))
        counted.append(live.book(Totals(epoch=epoch, counts={what: 1})))
    return books.put(*counted).note(
        call_id, Call(status="blocked", charges=tuple(charges)), "blocked"
    )


def amounts_held(limit: Limit, bounds: Bounds) -> tuple[int, int]:
    """Likely and ceiling of a call, in a limit's unit."""
    if limit.unit == "usd":
        return bounds.limits.get(limit.limit_id, (bounds.likely_pico, bounds.ceiling_pico))
    if limit.unit == "tokens":
        return bounds.likely_tokens, bounds.ceiling_tokens
    return 1, 1


def half_end_ms(live: Live) -> int | None:
    """When half of a limit's holds are expected to have ended; None: it has none."""
    ends = sorted(it.ends_ms for it in live.holds.values())
    return ends[len(ends) // 2] if ends else None


def _share(live: Live, bounds: Bounds, now_ms: int, ends_ms: int) -> Share:
    limit = live.limit
    return Share(
        live.into(now_ms), limit.unit, limit.mode, *amounts_held(limit, bounds), ends_ms=ends_ms
    )


# Heartbeat


def beat(books: Books, call_id: str, floor: Floor, deadline_ms: int) -> Books:
    """A call still runs; what is certain of it raises what is likely, and never lowers it."""
    call = books.calls[call_id]
    if call.status != "held":
        return books
    used = Used(floor.pico, 0, floor.tokens, floor.limit_costs)
    shares, changed = {}, []
    for limit_id, its in call.shares.items():
        live = books.limits.get(limit_id)
        certain = _measured(its.unit, limit_id, used)
        if live is not None and live.counts(its.epoch) and (certain or 0) > its.likely:
            its = replace(its, likely=certain)  # noqa: PLW2901
            changed.append(replace(live, holds={**live.holds, call_id: its}))
        shares[limit_id] = its
    running = replace(call, shares=shares, deadline_ms=deadline_ms, floor=floor)
    return books.put(*changed).note(call_id, running)


# Settle, release, expire


def end(
    books: Books,
    call_id: str,
    verb: Verb,
    used: Used,
    *,
    now_ms: int,
    admitted: Sequence[tuple[str, int]] = (),
) -> Books:
    """End a call, once: the truth (settle), nothing (release), or what is certain (expire).

    `admitted`: limits, and their epochs, of one that was admitted without a hold.
    """
    call = books.calls.get(call_id)
    if call is None:
        return _finish(books, call_id, verb, used, now_ms=now_ms, limits=admitted)
    if call.status == "expired" and verb != "expire":
        return correct(books, call_id, NOTHING if verb == "release" else used, now_ms)
    if call.status != "held":
        return books
    limits = [(limit_id, its.epoch) for limit_id, its in call.shares.items()]
    return _finish(books, call_id, verb, used, now_ms=now_ms, limits=limits)


def expire(books: Books, now_ms: int, spared: Iterable[str] = ()) -> Books:
    """Give up the calls whose time has come, the oldest first, but for those spared."""
    due = [
        (it.deadline_ms, call_id)
        for call_id, it in books.calls.items()
        if it.status == "held" and it.deadline_ms <= now_ms and call_id not in spared
    ]
    for _, call_id in sorted(due):
        floor = books.calls[call_id].floor
        certain = Used(floor.pico, 0, floor.tokens, floor.limit_costs)
        books = end(books, call_id, "expire", certain, now_ms=now_ms)
    return books


def correct(books: Books, call_id: str, truth: Used, now_ms: int) -> Books:
    """Replace, once, what a call was charged that was given up: the truth came after all."""
    call = books.calls[call_id]
    charges, changed = [], []
    for before in call.charges:
        limit_id, unit = before.limit_id, before.unit
        measured = _measured(unit, limit_id, truth)
        delta = 0 if measured is None else measured - before.amount
        live = books.limits.get(limit_id)
        what: State = "ok"
        if live is not None:
            live = age(live, now_ms)
            if live.counts(before.epoch):
                what = state_after(live.totals.settled + delta, live.limit)
                output = truth.cost_for(limit_id)[1] if unit == "usd" else 0
                live = live.book(_charge(before.epoch, unit, delta, output))
            changed.append(live)
        charges.append(Charge(limit_id, before.epoch, unit, delta, what))
    corrected = replace(call, status="corrected", charges=tuple(charges))
    return books.put(*changed).note(call_id, corrected, "correction")


def amount_charged(verb: Verb, unit: Unit, limit_id: str, share: Share | None, used: Used) -> int:
    """What a limit is charged for a call, in its unit."""
    if verb == "release" or unit == "concurrent":
        return 0
    measured = _measured(unit, limit_id, used)
    if measured is None:
        return 1
    capped = verb == "expire" and share is not None and share.mode == "hard"
    return share.ceiling if capped and share is not None else measured


def _finish(
    books: Books,
    call_id: str,
    verb: Verb,
    used: Used,
    *,
    now_ms: int,
    limits: Sequence[tuple[str, int]],
) -> Books:
    call = books.calls.get(call_id, Call(status="held"))
    charges, changed = [], []
    for limit_id, epoch in limits:
        share, live = call.shares.get(limit_id), books.limits.get(limit_id)
        if live is not None:
            live = age(live, now_ms)
            if share is None:
                live, epoch = _admitted_into(live, epoch, now_ms)  # noqa: PLW2901
        unit = share.unit if share else live.limit.unit if live else "usd"
        amount = amount_charged(verb, unit, limit_id, share, used)
        nothing = verb == "release" or (verb == "expire" and amount == 0)
        what: State = "failed" if nothing else "ok"
        if live is not None:
            if live.counts(epoch):
                if not nothing:
                    what = state_after(live.totals.settled + amount, live.limit)
                output = used.cost_for(limit_id)[1] if verb == "settle" and unit == "usd" else 0
                holds = {k: v for k, v in live.holds.items() if k != call_id}
                live = replace(live.book(_charge(epoch, unit, amount, output, what)), holds=holds)
            changed.append(live)
        charges.append(Charge(limit_id, epoch, unit, amount, what))
    status: Status = "expired" if verb == "expire" else "settled"
    kind: Kind = "call" if call_id in books.calls else "replayed"
    ended = replace(call, status=status, charges=tuple(charges))
    return books.put(*changed).note(call_id, ended, kind)


def _admitted_into(live: Live, epoch: int, now_ms: int) -> tuple[Live, int]:
    """Where a call without a hold is counted: the present epoch if it names none (0), and it may be
    the first of its window."""
    if epoch == 0:
        return live, live.into(now_ms)
    if epoch > live.epoch and not live.part_ms and live.limit.unit != "concurrent":
        return begin(live, epoch), epoch
    return live, epoch


def _measured(unit: Unit, limit_id: str, used: Used) -> int | None:
    """What a call used, in a limit's unit; None where it is not what is counted."""
    if unit == "usd":
        return sum(used.cost_for(limit_id))
    return used.tokens if unit == "tokens" else None


def _charge(epoch: int, unit: Unit, amount: int, output: int, what: State | None = None) -> Totals:
    money = {"settled_input": amount - output, "settled_output": output} if unit == "usd" else {}
    return Totals(epoch=epoch, settled=amount, counts={what: 1} if what else {}, **money)
