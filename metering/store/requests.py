"""One call, found by our id or by the provider's: its latest attempt, corrections summed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from metering.core.limits import Charge
from metering.core.record import UPSERT, WAS, UsageRow
from metering.store import Store, as_uuid, rows
from metering.store.rows import Landed
from metering.store.usage import Entry

Name = tuple[str, str]
"""Where an id is from, a category, and the id."""


async def by_request(store: Store, application_id: str, request_id: str) -> Entry | None:
    """A call by our id."""
    application, request = as_uuid(application_id), as_uuid(request_id)
    if application is None or request is None:
        return None
    async with store.reader(application_id) as reader:
        records = await reader.rows("read_request", application, request)
    return summed([rows.read(record) for record in records])


async def by_provider(
    store: Store, application_id: str, category: str, provider_id: str
) -> Entry | None:
    """A call by the id the provider gave it; the latest one, should an id have come twice."""
    name = (category, provider_id)
    request_id = (await request_ids_of(store, application_id, [name])).get(name)
    return None if request_id is None else await by_request(store, application_id, request_id)


async def request_ids_of(
    store: Store, application_id: str, names: Collection[Name]
) -> dict[Name, str]:
    """Our ids of the latest calls that got these ids from their providers; less those of none."""
    if not names:
        return {}
    categories, ids = [it[0] for it in names], [it[1] for it in names]
    records = await store.rows("read_request_ids", as_uuid(application_id), categories, ids)
    return {(it["category"], it["id"]): str(it["request_id"]) for it in records}


async def exists(store: Store, application_id: str, request_id: str, attempt: int) -> bool:
    """Whether an attempt of a call has landed."""
    arguments = (as_uuid(application_id), as_uuid(request_id), attempt)
    landed: bool = await store.value("read_attempt_landed", *arguments)
    return landed


async def refused(store: Store, application_id: str, limit_id: str, most: int) -> list[UsageRow]:
    """The latest calls that a limit refused, newest first."""
    async with store.reader(application_id) as reader:
        records = await reader.rows("read_refused", application_id, limit_id, most)
    return [rows.read(record)[0] for record in records]


async def set_properties(
    store: Store, application_id: str, request_id: str, properties: Mapping[str, str | None]
) -> bool:
    """Merge properties into a call's; a None removes its name. False: no row of it has landed."""
    merged = msgspec.json.encode(properties).decode()
    arguments = (as_uuid(application_id), as_uuid(request_id), merged)
    return await store.value("update_request_properties", *arguments) is not None


def summed(entries: Sequence[Landed]) -> Entry | None:
    """The call among the entries of one attempt, with what its corrections say added to it.

    A correction of an `unresolved` call brings the truth about its status too, and what a later
    report says of a reported call brings all of it.
    """
    if not entries:
        return None
    ordered = sorted(entries, key=lambda landed: landed[0].entry != "call")
    total = ordered[0][0]
    for correction, _ in ordered[1:]:
        total = _corrected(total, correction)
    return Entry(total, _charges(charge for _, charges in ordered for charge in charges))


def _corrected(row: UsageRow, correction: UsageRow) -> UsageRow:
    was = correction.entry.endswith(WAS)
    anew = correction.entry.startswith(UPSERT) and not was
    labels, priced = correction if anew else row, row if was else correction
    resolved = row.status == "unresolved" and not was
    return msgspec.structs.replace(
        labels,
        entry=row.entry,
        at_ms=row.at_ms,
        status=correction.status if resolved else labels.status,
        http_status=correction.http_status if resolved else labels.http_status,
        provider_id=row.provider_id or correction.provider_id,
        price_id=priced.price_id or row.price_id,
        price_version=priced.price_version or row.price_version,
        pricing=priced.pricing,
        units=_added(row.units, correction.units),
        lines=_added(row.lines, correction.lines),
        input_pico=row.input_pico + correction.input_pico,
        output_pico=row.output_pico + correction.output_pico,
        cost_pico=row.cost_pico + correction.cost_pico,
        estimated=priced.estimated,
        limit_costs={
            limit_id: (before[0] + more[0], before[1] + more[1])
            for limit_id, more in correction.limit_costs.items()
            for before in (row.cost_for(limit_id),)
        },
    )


def _added(amounts: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    return {unit: amounts.get(unit, 0) + more.get(unit, 0) for unit in {**amounts, **more}}


def _charges(charges: Iterable[Charge]) -> tuple[Charge, ...]:
    """What each limit was charged in all; the state is the one it was left in last."""
    totals: dict[tuple[str, int, str], Charge] = {}
    for charge in charges:
        mark = (charge.limit_id, charge.epoch, charge.unit)
        before = totals[mark].amount if mark in totals else 0
        totals[mark] = msgspec.structs.replace(charge, amount=before + charge.amount)
    return tuple(totals.values())
