"""The proof: what the stand-in billed, what clients saw, rows, rollups and counters are one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec

from metering.store.rollups import DIFFERENCES
from sql import queries
from tests.chaos.load import Seen
from tests.chaos.rig import Rig, charges_of
from tests.standin.ledger import Entry

PICO = 10**12
STATES = ("ok", "exceeded", "overrun", "blocked", "blocked_external", "failed")


class Figures(msgspec.Struct, kw_only=True):
    """What a run came to."""

    calls: int
    """That clients made."""
    told: int
    """Whose clients were told the cost."""
    billed: int
    """In the stand-in's books."""
    rows: dict[str, int]
    """By status."""
    late: int
    """Corrections."""
    estimated: int
    """Rows whose provider had not said what was used."""
    cost_pico: int


def audit(
    rig: Rig,
    application_id: str,
    seen: Iterable[Seen],
    entries: Iterable[Entry],
    *,
    estimates: bool = False,
) -> Figures:
    """Compare everything with everything; raises AssertionError. The rig must be quiet.

    `estimates`: rows may be estimated, and those may then differ from the bill.
    """
    seen, entries = list(seen), list(entries)
    records = records_of(rig, application_id)
    rows = by_call(records)
    estimated = [its["call"] for its in rows.values() if its["call"]["estimated"]]
    assert estimates or {it["status"] for it in estimated} <= {"unresolved"}
    tagged: defaultdict[str, list[str]] = defaultdict(list)
    for request_id, its in rows.items():
        (tag,) = msgspec.json.decode(its["call"]["tags"])
        tagged[tag].append(request_id)
    made = {it.tag for it in seen}
    assert set(tagged) <= made, "a row of a call that nobody made"
    for one in seen:
        _check_told(one, rows)
    _check_billed(entries, rows, tagged, {it.tag: it for it in seen})
    check_sums(rig, application_id, records)
    return Figures(
        calls=len(seen),
        told=sum(it.cost_pico is not None for it in seen),
        billed=len(entries),
        rows=dict(Counter(its["call"]["status"] for its in rows.values())),
        late=sum("late" in its for its in rows.values()),
        estimated=sum(it["status"] == "ok" for it in estimated),
        cost_pico=sum(record["cost_pico"] for record in records),
    )


def records_of(rig: Rig, application_id: str) -> list[Any]:
    """All rows of an application."""
    return rig.query("SELECT * FROM usage WHERE application_id = $1", application_id)


def by_call(records: list[Any]) -> dict[str, dict[str, Any]]:
    """By request id, the entries by name; every call has its first."""
    rows: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for record in records:
        assert record["attempt"] == 1
        rows[str(record["request_id"])][record["entry"]] = record
    assert all("call" in its for its in rows.values()), "a correction of nothing"
    return rows


def cost_of(its: dict[str, Any]) -> int:
    """What a call cost in the end."""
    return sum(record["cost_pico"] for record in its.values())


def _check_told(one: Seen, rows: dict[str, dict[str, Any]]) -> None:
    """Who was told a cost finds it in exactly one row, unless it came by a correction."""
    if one.cost_pico is None or one.status != 200:
        return
    assert one.request_id in rows, f"{one.tag}: its client was told a cost, and there is no row"
    its = rows[one.request_id]
    assert cost_of(its) == one.cost_pico, one.tag
    assert its["call"]["status"] == "ok" or "late" in its, one.tag


def _check_billed(
    entries: list[Entry],
    rows: dict[str, dict[str, Any]],
    tagged: dict[str, list[str]],
    seen: dict[str, Seen],
) -> None:
    """Every call in the provider's books has one row: settled at its cost, or `unresolved`."""
    assert len({entry.tag for entry in entries}) == len(entries)
    for entry in entries:
        assert entry.tag is not None
        request_ids = tagged.get(entry.tag, [])
        assert len(request_ids) == 1, f"{entry.tag}: {len(request_ids)} rows"
        its = rows[request_ids[0]]
        status = its["call"]["status"]
        if status == "ok" or "late" in its:
            if its["call"]["estimated"] and "late" not in its:
                continue
            assert cost_of(its) == entry.cost_pico, entry.tag
            names = {record["provider_id"] for record in its.values()}
            assert entry.id in names or entry.path.endswith("/embeddings"), entry.tag
        else:
            assert status == "unresolved", f"{entry.tag}: {status}"
            assert seen[entry.tag].cost_pico is None, entry.tag
    billed = {entry.tag for entry in entries}
    for tag, request_ids in tagged.items():
        if tag not in billed:  # it never got there
            statuses = {rows[it]["call"]["status"] for it in request_ids}
            assert statuses <= {"unresolved", "failed", "blocked"}, f"{tag}: {statuses}"


def check_sums(rig: Rig, application_id: str, records: list[Any]) -> None:
    """Every live counter is the sum of what rows charged, and nothing is held; every rollup and
    limit total is the sum of its rows; every row could be written."""
    for name in DIFFERENCES:
        assert rig.query(queries[name], None, None) == [], name
    assert not rig.query("SELECT reason FROM dead_letters")
    audited = rig.service.manage("POST", "audit/check", {}, application=application_id)
    assert audited["differences"] == []
    sums: Counter[tuple[str, str]] = Counter()
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        for limit_id, _, unit, amount, state in charges_of(record):
            sums[limit_id, unit] += amount
            if record["entry"] == "call":
                counts[limit_id][state] += 1
    for (limit_id, unit), total in sums.items():
        its = rig.counters(application_id, limit_id)
        assert its["sw"] * (PICO if unit == "usd" else 1) + its["sp"] == total, limit_id
        held = [its[name] for name in ("n", "members", "lw", "lp", "cw", "cp")]
        assert held == [0] * 6, f"{limit_id}: {held}"
        live = {state: its[state] for state in STATES if its[state]}
        assert live == dict(counts[limit_id]), limit_id
