"""`/prices/reprice`: what calls would have cost by other prices, and corrections that charge that.

A question is answered in parts: each is of so many calls, and its `cursor` asks for the next. Only
an admin key comes here.
"""

import asyncio
import time
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import msgspec
from litestar import Controller, post
from litestar.params import JSONBody

from metering.api import pages
from metering.api.auth import admin_only
from metering.api.price_versions import BODY_BYTES_MAX
from metering.api.server import ApiRequest
from metering.api.services import Services
from metering.api.text import checked_id, moment, time_ms
from metering.api.usage import landed_until_ms
from metering.core.money import usd
from metering.core.prices import PriceList
from metering.core.record import INGEST, UsageRow
from metering.core.repricing import RatesOf, Report, Sums, differs, repriced
from metering.duties.prices import read
from metering.errors import InvalidRequest
from metering.providers import provider_of
from metering.store import audit, calls
from metering.store.usage import END_MS, Filters
from pricing.book import PriceBook
from pricing.catalogue import PriceDataError
from pricing.load import digest, parse_all, put
from pricing.rates import Rates

LISTING = "reprice"
PAGE_CALLS = 500
PART_S = 5.0
"""So long a part takes, and a page more: well below what clients wait for an answer."""
AT_ONCE = 32
"""So many calls are corrected together: others' calls come first."""
UNLANDED_MAX = 20_000
"""Corrections wait while so many rows are on their way to Postgres: those of calls come first."""
PAUSE_S = 0.1
RUN_CHARS_MAX = 64
_PERCENT = Decimal("0.01")


class Reprice(msgspec.Struct, kw_only=True):
    """Which calls, by which prices, and whether to charge them."""

    since: str = msgspec.field(name="from")
    to: str
    as_: str | None = msgspec.field(name="as", default=None)
    """Price all of them as this model, `provider/model`."""
    files: dict[str, str] = {}
    """Price files in place of those in force."""
    model: str | None = None
    """Only calls of this model."""
    apply: bool = False
    run: str | None = None
    """What the corrections are named: a call has one of each name."""
    cursor: str | None = None


class RepricingController(Controller):
    """Price calls anew."""

    path = "/prices/reprice"
    tags = ("prices",)
    guards = (admin_only,)

    @post(status_code=200, request_max_body_size=BODY_BYTES_MAX)
    async def reprice(self, request: ApiRequest, data: JSONBody[Reprice]) -> dict[str, Any]:
        """What calls admitted in [from, to) cost, and would; `apply` charges the difference."""
        filters = _filters(request, data)
        run = checked_id(data.run or request.request_id, "run")
        if len(run) > RUN_CHARS_MAX:
            raise InvalidRequest(f"run has more than {RUN_CHARS_MAX} characters", field="run")
        if data.apply and data.as_ and not data.model:
            raise InvalidRequest(
                "as is to be charged: say which calls are meant, with model", field="model"
            )
        prices = await _prices(request.services, data)
        part = _Part(request.services, prices, _rates_of(prices, data.as_), run, apply=data.apply)
        place = pages.read_cursor(request, LISTING, data.cursor)
        if data.apply and place is None:
            await _note(request, filters, run, prices.version, data)
        place = await part.count(filters, place)
        answer = {
            "request_id": request.request_id,
            "from": moment(filters.from_ms),
            "to": moment(filters.to_ms),
            "as_of": moment(min(part.as_of_ms, await landed_until_ms(request.services))),
            "run": run,
            "applied": data.apply,
            "price_version": prices.version,
            **part.figures(),
        }
        cursor = pages.write_cursor(request, LISTING, place)
        return answer if cursor is None else {**answer, "cursor": cursor}


class _Part:
    """One part of a question on its way."""

    def __init__(
        self, services: Services, prices: PriceList, rates_of: RatesOf, run: str, *, apply: bool
    ) -> None:
        self._services = services
        self._prices = prices
        self._rates_of = rates_of
        self._run = run
        self._apply = apply
        self._report = Report()
        self._corrected, self._corrected_pico = 0, 0
        self.as_of_ms = END_MS

    async def count(self, filters: Filters, place: str | None) -> str | None:
        """Count calls for a while; gives where to go on, or None: there are no more."""
        ends_s = time.monotonic() + PART_S
        while True:
            page = await calls.page(self._services.store, filters, PAGE_CALLS, place)
            self.as_of_ms = min(self.as_of_ms, page.as_of_ms)
            truths = await asyncio.to_thread(self._priced, page.calls)
            if self._apply:
                await self._let_land(ends_s)
                await self._correct(truths)
            place = page.cursor
            if place is None or time.monotonic() > ends_s:
                return place

    def _priced(self, found: list[calls.Call]) -> list[tuple[calls.Call, UsageRow]]:
        """The calls whose cost differs, with what they cost now; all are counted."""
        differing = []
        for call in found:
            row = call.sum.row
            own = self._prices.own.get(row.application_id)
            limits = () if own is None else own.of_charges(call.sum.charges)
            after = repriced(row, self._rates_of, limits)
            self._report.add(row, (it.limit_id for it in call.sum.charges), after)
            if not isinstance(after, str) and differs(row, after):
                truth = msgspec.structs.replace(after, price_version=self._prices.version)
                differing.append((call, truth))
        return differing

    async def _let_land(self, ends_s: float) -> None:
        """Wait for the writer, but not beyond a part's end: then a page goes on all the same."""
        ledger = self._services.ledger
        while await ledger.unlanded() > UNLANDED_MAX and time.monotonic() < ends_s:  # noqa: ASYNC110
            await asyncio.sleep(PAUSE_S)

    async def _correct(self, truths: list[tuple[calls.Call, UsageRow]]) -> None:
        ledger, now_ms = self._services.ledger, self._services.clock()
        due = [it for it in truths if f"reprice:{self._run}" not in it[0].entries]
        limits = {(row.application_id, it.limit_id) for call, row in due for it in call.sum.charges}
        for application_id, limit_id in limits:
            await ledger.load(application_id, [limit_id])
        for start in range(0, len(due), AT_ONCE):
            some = due[start : start + AT_ONCE]
            made = await asyncio.gather(
                *(ledger.reprice(self._run, call.sum, row, now_ms) for call, row in some)
            )
            self._corrected += sum(it.differs for it in made)
            self._corrected_pico += sum(it.pico for it in made)

    def figures(self) -> dict[str, Any]:
        """What was counted."""
        return {
            "corrected": self._corrected,
            "corrected_usd": usd(self._corrected_pico),
            "total": sums_object(self._report.total),
            "not_repriced": dict(self._report.apart),
            "by": {
                name: [{name: value, **sums_object(it)} for value, it in groups.items()]
                for name, groups in self._report.groups.items()
            },
        }


def sums_object(sums: Sums) -> dict[str, Any]:
    """Sums as callers see them; `percent` is absent where nothing was charged before."""
    difference = sums.after_pico - sums.before_pico
    found: dict[str, Any] = {
        "calls": sums.calls,
        "changed": sums.changed,
        "before_usd": usd(sums.before_pico),
        "after_usd": usd(sums.after_pico),
        "difference_usd": usd(difference),
    }
    if sums.before_pico:
        percent = Decimal(difference) * 100 / sums.before_pico
        found["percent"] = percent.quantize(_PERCENT, ROUND_HALF_EVEN)
    return found


async def _note(
    request: ApiRequest, filters: Filters, run: str, version: str, data: Reprice
) -> None:
    """Put on record, before anything is corrected, that somebody corrects what calls cost."""
    particulars = {
        "from": moment(filters.from_ms),
        "to": moment(filters.to_ms),
        "as": data.as_,
        "model": data.model,
        "price_version": version,
    }
    which = ("repricing", run)
    store = request.services.store
    await audit.note(store, filters.application_id, "repriced", which, particulars)


def _filters(request: ApiRequest, data: Reprice) -> Filters:
    from_ms, to_ms = time_ms(data.since, "from"), time_ms(data.to, "to")
    if from_ms >= to_ms:
        raise InvalidRequest("from is not before to", field="from")
    scope = request.user.scope
    return Filters(
        application_id=scope, from_ms=from_ms, to_ms=min(to_ms, END_MS), model=data.model
    )


async def _prices(services: Services, data: Reprice) -> PriceList:
    """The prices in force, or the same with the files that came along."""
    if not data.files:
        return services.prices.now
    _, base = await read(services.store, services.prices.packaged, services.prices.version.version)

    def with_files() -> PriceList:
        contents = put({name: text.encode() for name, text in data.files.items()}, base)
        book = PriceBook(parse_all(contents), f"files-{digest(contents)}")
        return PriceList(book, services.prices.now.own, services.prices.now.resources)

    try:
        return await asyncio.to_thread(with_files)
    except PriceDataError as error:
        raise InvalidRequest(f"files: {error}", code="invalid_prices", field="files") from None


def _rates_of(prices: PriceList, as_model: str | None) -> RatesOf:
    """How a call's rates are found: by its own model, or by the one they are all priced as."""
    seller, _, name = (as_model or "").partition("/")
    if as_model and prices.book.find(seller, name, END_MS) is None:
        raise InvalidRequest(
            f"as={as_model!r} is no model whose price is known: give provider/model; "
            "xproxy prices list searches",
            field="as",
        )

    def rates_of(row: UsageRow) -> Rates | None:
        provider = seller or provider_of(row.price_as_category, row.provider)
        model = name or row.price_as_resource or row.model or ""
        reported = row.surface == INGEST
        named = row.category if reported else row.price_as_category
        custom = prices.resource(row.application_id, named, model, row.at_ms, reported=reported)
        if custom is not None and not seller:
            return custom
        rates = prices.book.find(provider, model, row.at_ms)
        own = prices.own.get(row.application_id)
        if own is None or rates is None:
            return rates
        return own.of(rates, row.at_ms, row.credential)

    return rates_of
