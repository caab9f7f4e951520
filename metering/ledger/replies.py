"""What the scripts answer and write, as values."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import msgspec

from metering.core.limits import (
    STATES,
    Charge,
    Limit,
    Refusal,
    Refused,
    State,
    Totals,
    Unit,
    until_ms,
)
from metering.core.money import join, split
from metering.core.rates import Rate, Throttled
from metering.core.record import INGEST, UsageRow

IS = struct.Struct("<5d")
"""What a limit is begins with numbers; mode, unit and epoch follow, each ended by a zero byte."""
COUNTERS = struct.Struct("<17d")
"""Whole numbers below 2^53, as doubles: exact."""
PART = struct.Struct("<12d")
WAIT_S_MAX = 20
"""So long a refused call may be asked to wait before it tries again."""


def amount(unit: Unit, whole: int, part: int) -> int:
    """An amount in the limit's unit from its two integers."""
    return join(whole, part) if unit == "usd" else whole


def parse_charges(text: bytes | str) -> tuple[Charge, ...]:
    """The charges a script wrote: `id|epoch|unit|whole|part|state;`..."""
    text = text.decode() if isinstance(text, bytes) else text
    parts = text.replace(";", "|").split("|")
    return tuple(
        [
            Charge(limit_id, int(epoch), unit, amount(unit, int(whole), int(pico)), state)
            for limit_id, epoch, unit, whole, pico, state in zip(
                *[iter(parts)] * 6,
                strict=False,  # the last part is what follows the last `;`
            )
        ]
    )


def states_of(charged: bytes) -> dict[str, State]:
    """The same text, read for nothing but the states: limit ids to what they were left in."""
    parts = charged.decode().replace(";", "|").split("|")
    return dict(zip(parts[::6], parts[5::6], strict=False))  # type: ignore[arg-type]


def format_charges(charges: Sequence[Charge]) -> str:
    """Charges as a script writes them."""
    parts = []
    for it in charges:
        whole, pico = pair(it.unit, it.amount)
        parts.append(f"{it.limit_id}|{it.epoch}|{it.unit}|{whole}|{pico}|{it.state};")
    return "".join(parts)


def pair(unit: Unit, value: int) -> tuple[int, int]:
    """The two integers of an amount in the limit's unit."""
    return split(value) if unit == "usd" else (value, 0)


def throttled(reply: Sequence[bytes], rates: Sequence[Rate]) -> Throttled:
    """What a call was told that came too soon; `rates` are those it was asked with."""
    kind, key, *numbers = (part.decode() for part in reply[1:])
    _, used, needed, wait_ms = map(int, numbers)
    rate = next(it for it in rates if it.kind == kind and key.endswith(f":{it.name}:{kind}"))
    return Throttled(rate=rate, used=used, needed=needed, retry_ms=wait_ms)


def own_amounts(amounts: Mapping[str, tuple[int, int]]) -> str:
    """Two amounts of each limit with own rates, as scripts take and keep them; '' is none."""
    if not amounts:
        return ""
    return "".join(
        [
            "|".join([limit_id, *map(str, (*split(one), *split(other)))]) + ";"
            for limit_id, (one, other) in amounts.items()
        ]
    )


def parse_own_amounts(text: bytes | None) -> dict[str, tuple[int, int]]:
    """The same, read."""
    parts = [part.split("|") for part in (text or b"").decode().split(";")[:-1]]
    return {
        limit_id: (join(int(ow), int(op)), join(int(tw), int(tp)))
        for limit_id, ow, op, tw, tp in parts
    }


def what_is(packed: bytes) -> tuple[str, Unit, int]:
    """Mode (`closed`: its counters are being rebuilt), unit and epoch of a limit, from its hash."""
    mode, unit, epoch, _ = packed[IS.size :].decode().split("\0")
    return mode, unit, int(epoch)  # type: ignore[return-value]


def totals_of(fields: dict[bytes, bytes]) -> Totals:
    """The counters of a limit hash; the prelude of the scripts says how they are packed."""
    _, unit, epoch = what_is(fields[b"is"])
    numbers = [int(number) for number in COUNTERS.unpack(fields[b"cnt"])]
    pairs = [amount(unit, *numbers[at : at + 2]) for at in range(0, 10, 2)]
    return Totals(
        epoch=epoch,
        settled=pairs[0],
        settled_input=pairs[1],
        settled_output=pairs[2],
        held_likely=pairs[3],
        held_ceiling=pairs[4],
        holds=numbers[10],
        counts=dict(zip(STATES, numbers[11:], strict=True)),
    )


def parts_of(unit: Unit, fields: Mapping[bytes, bytes]) -> dict[int, Totals]:
    """What a rolling window counts, by epoch, from the hash of its parts."""
    found = {}
    for epoch, packed in fields.items():
        if epoch != b"oldest":
            numbers = [int(number) for number in PART.unpack(packed)]
            pairs = [amount(unit, *numbers[at : at + 2]) for at in range(0, 6, 2)]
            found[int(epoch)] = Totals(
                epoch=int(epoch),
                settled=pairs[0],
                settled_input=pairs[1],
                settled_output=pairs[2],
                counts=dict(zip(STATES, numbers[6:], strict=True)),
            )
    return found


def totals_parts(unit: Unit, totals: Totals) -> list[int]:
    """The same counters less the holds, as a script takes them, their epoch first."""
    return [
        totals.epoch,
        *pair(unit, totals.settled),
        *pair(unit, totals.settled_input),
        *pair(unit, totals.settled_output),
        *(totals.counts.get(state, 0) for state in STATES),
    ]


def starts_text(limits: Sequence[Limit], at_ms: int) -> str:
    """When the windows of limits on the calendar begin, around a moment, as scripts take it."""
    return "".join(
        [
            f"{it.limit_id}|{it.window.starts(at_ms).text};"
            for it in limits
            if it.window is not None and not it.window.part_ms
        ]
    )


def index_entry(row: UsageRow) -> str:
    """What the index by provider ids says of a call: its request and attempt, and that it was
    reported, so that whoever finds it need not look."""
    told = f"{row.request_id}:{row.attempt}"
    return f"{told}:{INGEST}" if row.surface == INGEST else told


def indexed_request(entry: bytes) -> str:
    """The request of an entry of the index."""
    return entry.decode().partition(":")[0]


def is_of_report(entry: bytes) -> bool:
    """Whether an entry of the index is of a call that was reported; there may be none (b"")."""
    return entry.endswith(b":" + INGEST.encode())


def fields_of(reply: list[bytes] | dict[bytes, bytes]) -> dict[bytes, bytes]:
    """A hash from either reply shape (RESP2 list, RESP3 map)."""
    if isinstance(reply, dict):
        return reply
    return dict(zip(reply[::2], reply[1::2], strict=True))


def refused(reply: Sequence[bytes | int], limits: Sequence[Limit], at_ms: int) -> Refused:
    """A refusal in numbers, from the script's reply to a call of these limits, admitted then."""
    by_id = {it.limit_id: it for it in limits}
    refusals = tuple(
        msgspec.structs.replace(
            it, resets_at_ms=it.resets_at_ms or by_id[it.limit_id].resets_ms(it.epoch)
        )
        for it in parse_refusals(reply[4])  # type: ignore[arg-type]
    )
    wait_ms, retryable, anew_ms = int(reply[2]), not reply[1], until_ms(refusals)
    if anew_ms is not None and anew_ms - at_ms <= WAIT_S_MAX * 1000:
        retryable, wait_ms = True, max(wait_ms, anew_ms - at_ms)
    return Refused(
        states=states_of(reply[3]),  # type: ignore[arg-type]
        blocked_limit_ids=tuple(it.limit_id for it in refusals),
        retryable=retryable,
        retry_after_s=min(WAIT_S_MAX, max(1, -(-wait_ms // 1000))) if retryable else 0,
        refusals=refusals,
    )


def parse_refusals(text: bytes | None) -> list[Refusal]:
    """Why limits refused, as `reserve` writes it."""
    return [_refusal(part.split("|")) for part in (text or b"").decode().split(";")[:-1]]


def _refusal(parts: Sequence[str]) -> Refusal:
    limit_id, epoch, unit, mode, *figures = parts
    numbers = [int(figure) for figure in figures]
    pairs = [amount(unit, *numbers[at : at + 2]) for at in range(0, 8, 2)]  # type: ignore[arg-type]
    return Refusal(
        limit_id=limit_id,
        epoch=int(epoch),
        unit=unit,  # type: ignore[arg-type]
        mode=mode,  # type: ignore[arg-type]
        max=pairs[0],
        settled=pairs[1],
        held=pairs[2],
        needed=pairs[3],
        holds=numbers[8],
        resets_at_ms=next(iter(numbers[9:]), 0) or None,  # older entries do not have it
    )


def blocked(row: UsageRow, refusals: Sequence[Refusal]) -> UsageRow:
    """The row of a call that was refused, and why: it was made before the verdict."""
    return msgspec.structs.replace(
        row, status="blocked", error_code="limit_reached", refusals=list(refusals)
    )


def uncharged(row: UsageRow) -> UsageRow:
    """A call that used and cost nothing, otherwise the same."""
    return msgspec.structs.replace(
        row, units={}, lines={}, input_pico=0, output_pico=0, cost_pico=0, limit_costs={}
    )


def difference(truth: UsageRow, before: UsageRow, entry: str) -> UsageRow:
    """A signed correction: added to `before`, it gives `truth`."""
    names = set(truth.lines) | set(before.lines)
    lines = {it: truth.lines.get(it, 0) - before.lines.get(it, 0) for it in names}
    units = set(truth.units) | set(before.units)
    return msgspec.structs.replace(
        truth,
        entry=entry,
        lines={it: pico for it, pico in lines.items() if pico},
        units={
            it: count for it in units if (count := truth.units.get(it, 0) - before.units.get(it, 0))
        },
        input_pico=truth.input_pico - before.input_pico,
        output_pico=truth.output_pico - before.output_pico,
        cost_pico=truth.cost_pico - before.cost_pico,
        limit_costs={
            it: (now[0] - was[0], now[1] - was[1])
            for it in {**truth.limit_costs, **before.limit_costs}
            for now, was in ((truth.cost_for(it), before.cost_for(it)),)
        },
    )
