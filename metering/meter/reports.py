"""Calls that were made elsewhere and are reported here: priced, charged and recorded as ours are.

A call has names, the ids that its reporter or its provider gave it, and is charged once under them.
The names are put down first, with the request that the call is to be; then it is charged under that
request id, by the same script as any call. Whoever reports it again finds the names. If it was not
charged after all, because its first reporter's worker died between the two, he charges it, under
the same request id: of two who do so at once the script takes one. What was said in a call is put
away last of all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from metering.core.bodies import Bodies
from metering.core.limits import Bounds, Limit, resets_at
from metering.core.record import INGEST, UsageRow
from metering.core.resources import unit_for
from metering.core.restated import differs, merged, restated
from metering.directory import Caller, Directory
from metering.errors import InvalidRequest, NotFound, StoreAway, XproxyError
from metering.ledger import Hold
from metering.ledger.replies import uncharged
from metering.meter.archive import Archive
from metering.meter.meter import Meter, Outcome
from metering.meter.pricing import (
    Priced,
    Used,
    charged_values,
    limit_costs,
    price_of,
    with_request,
)
from metering.providers import provider_of
from metering.settings import Settings
from metering.store import Store, books, ingested, requests
from metering.store.requests import Name
from metering.store.usage import Entry
from pricing.units import TOKENS

AT_ONCE = 64
"""So many are charged together: as many as one run of the script takes."""
COST_MAX_PICO = 2**63 - 1
"""The most that one call may cost: what a row has room for."""


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    """A call as it was reported, checked: a row that lacks what it cost."""

    row: UsageRow
    units: Mapping[tuple[str, str], int]
    """How many of each type, by direction."""
    limit_ids: tuple[str, ...] = ()
    """Those that the report names."""
    names: tuple[Name, ...] = ()
    bodies: Bodies | None = None
    """What was said in it, if that is to be kept."""


class Known(msgspec.Struct, frozen=True):
    """A call that had been reported before."""

    request_id: str


Taken = Outcome | Known | XproxyError
"""What became of a report: charged now, charged before, or refused."""


class _Due(msgspec.Struct, frozen=True):
    """A call, ready to be charged."""

    row: UsageRow
    limits: tuple[Limit, ...]
    tokens: int


class Reports:
    """Takes reports for one worker."""

    def __init__(
        self, settings: Settings, directory: Directory, meter: Meter, archive: Archive
    ) -> None:
        self._unpriced = settings.unpriced
        self._directory = directory
        self._meter = meter
        self._archive = archive

    async def take(
        self, store: Store, caller: Caller, reports: Sequence[Reported], now_ms: int
    ) -> list[Taken]:
        """Charge each call once, whoever has reported it how often; gives what became of each.

        Raises StoreAway where nobody can tell what has been reported: then nothing was charged that
        the same reports would charge again, if they have names.
        """
        taken: dict[int, Taken] = {}
        due: dict[int, _Due] = {}
        for at, report in enumerate(reports):
            if at % AT_ONCE == 0:
                await asyncio.sleep(0)  # calls of others come first
            try:
                due[at] = await self.due(caller, report)
            except XproxyError as fault:
                if fault.status >= 500:
                    raise
                taken[at] = fault
        known = await self._known(store, caller, {at: reports[at] for at in due})
        due |= {at: _as(due[at], request_id) for at, request_id in known.items()}
        taken |= {at: Known(request_id) for at, request_id in known.items()}
        of = {at: it.row.request_id for at, it in due.items()}
        is_of = await _claimed(store, caller, [(of[at], reports[at].names) for at in due])
        new = {at: it for at, it in due.items() if at not in known}
        first = {at: it for at, it in new.items() if is_of.get(of[at], of[at]) == of[at]}
        taken |= await self._charge(first, now_ms)
        again = {at: _as(it, is_of[of[at]]) for at, it in new.items() if at not in first}
        taken |= await self._again(store, again, now_ms)
        said: dict[str, Bodies] = {}
        for at, report in enumerate(reports):
            request_id = _request_of(taken[at])
            if report.bodies is not None and request_id is not None:
                said.setdefault(request_id, report.bodies)
        await self._archive.keep(store, caller.application_id, said, now_ms)
        return [taken[at] for at in range(len(reports))]

    async def _known(
        self, store: Store, caller: Caller, reports: Mapping[int, Reported]
    ) -> dict[int, str]:
        """Which call a report is of that was charged before under one of its names, as the answer
        of a provider: here, when it was made through us, or by an earlier report.

        While Redis is away nobody knows of calls whose row has not landed. The report goes to the
        journal then, and the question is asked again when it is replayed.
        """
        names = list(dict.fromkeys(name for it in reports.values() for name in it.names))
        application_id = caller.application_id
        try:
            found = await self._meter.ledger.request_ids_of(store, application_id, names)
        except StoreAway:
            found = await requests.request_ids_of(store, application_id, names)
        known = {}
        for at, report in reports.items():
            request_id = next((found[name] for name in report.names if name in found), None)
            if request_id is not None:
                known[at] = request_id
        return known

    async def due(self, caller: Caller, report: Reported) -> _Due:
        """What a reported call cost, and what it counts against; raises CallerFault. Whose key
        reports it stands for whom the call was for, where the report does not say."""
        row = msgspec.structs.replace(
            report.row,
            user_id=report.row.user_id or caller.user_id,
            account_name=report.row.account_name or caller.customer,
            properties=merged({}, report.row.properties),
            use_case_properties=merged({}, report.row.use_case_properties),
        )
        report = msgspec.structs.replace(report, row=row)
        limits = await self._limits(caller, report)
        priced = self._price(report.row, limits)
        row, tokens = _priced(report, priced)
        return _Due(row, limits, tokens)

    async def _limits(self, caller: Caller, report: Reported) -> tuple[Limit, ...]:
        """Those that the report names, none of which may block: it is too late for that. What is
        attached to whom the call was for counts it, whatever it does with calls to come."""
        row = report.row
        attached = await self._directory.attached(
            caller, user_id=row.user_id, customer=row.account_name
        )
        names = tuple(dict.fromkeys((*report.limit_ids, *attached)))
        if not names:
            return ()
        found = await self._directory.limits(row.application_id, names)
        for name, limit in zip(names, found, strict=True):
            if limit is None and name in report.limit_ids:
                raise InvalidRequest(
                    f"Some or all of passed limit-ids do not exist: {name}; create them with POST "
                    "/api/v1/limits",
                    code="invalid_limit_ids",
                    field="limit_ids",
                )
            if limit is not None and limit.binding and name in report.limit_ids:
                raise InvalidRequest(
                    f"Block limits cannot be used for ingest requests: '{name}' is one",
                    code="blocking_limit_not_allowed",
                    field="limit_ids",
                )
        return tuple([it for it in found if it is not None])

    def _price(self, row: UsageRow, limits: tuple[Limit, ...]) -> Priced:
        model = row.model or ""
        priced = price_of(
            self._meter.prices,
            row.application_id,
            row.provider,
            model,
            row.at_ms,
            category=row.category,
            reported=True,
            limits=limits,
            estimate=self._unpriced == "estimate",
        )
        if priced.rates is None and self._unpriced == "refuse":
            raise NotFound(
                f"Category '{row.category}' and resource '{model}' not found",
                code="category_resource_not_found",
                field="resource",
            )
        return priced

    async def _charge(self, due: Mapping[int, _Due], now_ms: int) -> dict[int, Taken]:
        charged: dict[int, Taken] = {}
        places = [*due]
        for start in range(0, len(places), AT_ONCE):
            some = places[start : start + AT_ONCE]
            outcomes = await asyncio.gather(*(self._charge_one(due[at], now_ms) for at in some))
            charged.update(zip(some, outcomes, strict=True))
        return charged

    async def _charge_one(self, due: _Due, now_ms: int) -> Taken:
        """Without a hold: as a call is that found no Redis when it was let in. It counts in the
        window that its own time is in; what is dated ahead of our clock, in the present one."""
        row, limits = due.row, due.limits
        at_ms = min(row.at_ms, now_ms)
        epochs = [it.epoch_at(at_ms) if it.window else 0 for it in limits]
        pairs = [(it.limit_id, epoch) for it, epoch in zip(limits, epochs, strict=True)]
        hold = Hold(row, pairs, limits, Bounds(), spooled=True)
        hold.resets_at = resets_at(zip(limits, epochs, strict=True))
        if row.status == "failed":
            return await self._meter.release(hold, row)
        ended = await self._meter.ledger.settle(hold, row, due.tokens)
        return self._meter.outcome(hold, row, ended)

    async def _again(
        self, store: Store, again: Mapping[int, _Due], now_ms: int
    ) -> dict[int, Taken]:
        """Calls that were reported before: charged now only if they never were.

        Redis is asked first. What it has forgotten by then had landed, so that the rows know it;
        what neither knows is not charged, or is at this moment, which the script will see.
        """
        if not again:
            return {}
        application_id = next(iter(again.values())).row.application_id
        ledger, calls = self._meter.ledger, {it.row.request_id for it in again.values()}
        asked = [*calls]
        known: set[str] = set()
        for start in range(0, len(asked), AT_ONCE):
            some = asked[start : start + AT_ONCE]
            records = await asyncio.gather(*(ledger.record(application_id, it) for it in some))
            known |= {it for it, record in zip(some, records, strict=True) if record is not None}
        unknown = [(it, 1) for it in asked if it not in known]
        if unknown:
            known |= {it for it, _ in await books.landed_among(store, application_id, unknown)}
        lost: dict[str, int] = {}
        for at, it in again.items():
            if it.row.request_id not in known:
                lost.setdefault(it.row.request_id, at)
        await self._charge({at: again[at] for at in lost.values()}, now_ms)
        return {at: Known(it.row.request_id) for at, it in again.items()}

    async def correct(
        self,
        store: Store,
        caller: Caller,
        report: Reported,
        request_id: str,
        *,
        run: str,
        now_ms: int,
    ) -> bool:
        """Have a call that was reported be as a later report has it, by signed corrections; whether
        anything differs. It is priced by the prices of its own time."""
        ledger, application_id = self._meter.ledger, caller.application_id
        live = await ledger.record(application_id, request_id)
        call = (
            Entry(*live) if live else await requests.by_request(store, application_id, request_id)
        )
        if call is None:  # it is being charged at this moment
            raise StoreAway("this call is being charged; report it again")
        if call.row.surface != INGEST:  # what was measured here is not changed by what is said
            return False
        row = uncharged(restated(call.row, report.row))
        row = msgspec.structs.replace(row, warnings=report.row.warnings)
        priced = self._price(row, ())
        own = self._meter.prices.own.get(application_id)
        if own is not None:
            priced = msgspec.structs.replace(priced, limits=own.of_charges(call.charges))
        truth, tokens = _priced(msgspec.structs.replace(report, row=row), priced)
        if not differs(call.row, truth):
            return False
        done = await ledger.restate(run, call, truth, tokens, now_ms)
        return done.entry != b""


def _request_of(taken: Taken) -> str | None:
    """Which call a report was of; None: of none, it was refused."""
    if isinstance(taken, Known):
        return taken.request_id
    return taken.row.request_id if isinstance(taken, Outcome) else None


async def _claimed(
    store: Store, caller: Caller, reports: Iterable[tuple[str, Sequence[Name]]]
) -> dict[str, str]:
    """Which request each is of those that have names, once all of these are put down."""
    named: dict[str, list[Name]] = {}
    for request_id, names in reports:
        if names:
            named.setdefault(request_id, []).extend(names)
    return await ingested.claim(store, caller.application_id, named) if named else {}


def _as(due: _Due, request_id: str) -> _Due:
    row = msgspec.structs.replace(due.row, request_id=request_id)
    return _Due(row, due.limits, due.tokens)


def _priced(report: Reported, priced: Priced) -> tuple[UsageRow, int]:
    """The row with its units and cost, and how many tokens they are; a failed call has none."""
    row = report.row
    if row.status == "failed":
        return row, 0
    units: dict[str, int] = {}
    for (kind, direction), count in report.units.items():
        unit = unit_for(kind, direction, priced.rates)
        units[unit] = units.get(unit, 0) + count
    units = dict(with_request(units, priced.rates))
    warnings = list(row.warnings)
    used = Used(units, priced.rates, None, row.scope, call=True) if priced.rates else None
    values = charged_values(priced, used, warnings)
    if used and priced.limits:
        values["limit_costs"] = limit_costs([used], priced, row.at_ms)
    if values.get("cost_pico", 0) > COST_MAX_PICO:
        raise InvalidRequest("units cost more than one call can, $9.2 million", field="units")
    row = msgspec.structs.replace(row, units=units, warnings=warnings, **values)
    row = msgspec.structs.replace(row, estimated=priced.guessed)
    return row, sum(count for unit, count in units.items() if unit in TOKENS)


def provider_for(category: str) -> str:
    """The provider in the price book that a reported call's category is of."""
    return provider_of(category, category)
