"""What questions about spend have in common: of which days and keys, and how recent answers are."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from litestar.params import FromQuery

from metering.api.auth import presented_key
from metering.api.server import ApiRequest, ExactResponse
from metering.api.text import moment, time_ms
from metering.api.usage import landed_until_ms
from metering.core.keys import digest_of, looks_ours, may_be_litellms
from metering.errors import InvalidRequest
from metering.store import keys, profiles, spend
from metering.store.keys import KeyRow, Wanted
from metering.store.spend import By, Spent, Whose
from metering.store.usage import END_MS, Filters

DAY_MS = 86_400_000
MONTH_DAYS = 30
KEYS_MAX = 10_000
NO_KEY = "-"
"""The id of no key: what was spent with a key that is none is nothing."""


class Span(NamedTuple):
    """Of which time: [from, to) in milliseconds."""

    from_ms: int
    to_ms: int

    @property
    def last_day(self) -> str:
        """The last day in it."""
        return _day(self.to_ms - 1)


def span(start: str | None, end: str | None, *, needed: bool = False) -> Span:
    """From one day or time to another, which is in it, as a whole if it is a day, in UTC; what is
    not said is not bounded. Raises InvalidRequest naming the parameter."""
    for name, text in (("start_date", start), ("end_date", end)):
        if needed and not text:
            raise InvalidRequest("Please provide start_date and end_date", field=name)
    from_ms = _time_ms(start, "start_date") if start else 0
    to_ms = END_MS
    if end:
        is_day = len(end.strip()) == len("2026-01-31")
        to_ms = _time_ms(end, "end_date") + (DAY_MS if is_day else 1)
    if from_ms >= to_ms:
        raise InvalidRequest("start_date is after end_date", field="start_date")
    return Span(from_ms, min(to_ms, END_MS))


class Dates(NamedTuple):
    """The first and the last day that a question names, as they came."""

    start: str | None
    end: str | None

    def span(self, *, needed: bool = False) -> Span:
        """The time between; see `span`."""
        return span(self.start, self.end, needed=needed)


async def dates(
    *, start_date: FromQuery[str | None] = None, end_date: FromQuery[str | None] = None
) -> Dates:
    """What a question may say of its days."""
    return Dates(start_date, end_date)


def today(request: ApiRequest) -> str:
    """The day it is, in UTC."""
    return _day(request.services.clock())


def last_month(request: ApiRequest) -> Span:
    """Thirty days until now, the present one whole."""
    today_ms = request.services.clock() // DAY_MS * DAY_MS
    return Span(today_ms - MONTH_DAYS * DAY_MS, today_ms + DAY_MS)


def _time_ms(text: str, field: str) -> int:
    if not text[:4].isdigit() or text.strip().isdigit():
        raise InvalidRequest(f"{field}={text[:40]!r} is no day: give it as 2026-01-31", field=field)
    at_ms = time_ms(text.strip(), field)
    if not 0 <= at_ms < END_MS:
        raise InvalidRequest(f"{field} is out of bounds", field=field)
    return at_ms


def _day(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, tz=moment(0).tzinfo):%Y-%m-%d}"


def filters(request: ApiRequest, of: Span, **labels: Any) -> Filters:
    """Which rows: those of the application that is asked for."""
    return Filters(
        application_id=request.user.application_id, from_ms=of.from_ms, to_ms=of.to_ms, **labels
    )


async def key_id(request: ApiRequest, named: str | None) -> str | None:
    """A key's id by its token, which it is, or its secret; of a key that is none, no key's. None:
    none is named."""
    if not named:
        return None
    if not (looks_ours(named) or may_be_litellms(named)):
        return named
    if named == presented_key(request.headers):
        return request.user.key_id or NO_KEY
    if not request.user.is_admin:  # who finds keys by their secrets could look for some
        return NO_KEY
    services = request.services
    hashed = digest_of(services.pepper, named)
    application_id = request.user.application_id
    found = await keys.id_of(services.store, application_id, hashed, services.clock())
    return found or NO_KEY


async def sums(
    request: ApiRequest, which: Filters, *by: By, whose: Whose = spend.ANYBODY
) -> list[Spent]:
    """What was spent, see `store.spend`."""
    return await spend.sums(request.services.store, which, by, whose)


async def keys_in(request: ApiRequest, found: Iterable[Spent]) -> Mapping[str, KeyRow]:
    """The keys that sums are of, by id, as far as they are there still."""
    store, application_id = request.services.store, request.user.application_id
    return await keys.get_many(store, application_id, {it.key_id for it in found if it.key_id})


async def keys_of(request: ApiRequest, teams: Iterable[str]) -> list[str]:
    """The ids of the keys that some teams have."""
    store, application_id = request.services.store, request.user.application_id
    found: list[str] = []
    for team in teams:
        rows = await keys.some(store, application_id, Wanted(team=team), most=KEYS_MAX)
        found += [it.key_id for it in rows]
    return found


async def team_names(request: ApiRequest, teams: Iterable[str]) -> Mapping[str, str]:
    """What teams are called, by id: their alias, or else their id."""
    store, application_id = request.services.store, request.user.application_id
    wanted = sorted(set(teams))
    found = await profiles.get_many(store, application_id, "team", wanted) if wanted else []
    aliases = {it.name: it.details.get("team_alias") for it in found}
    return {it: aliases.get(it) or it for it in wanted}


async def as_of(request: ApiRequest) -> datetime:
    """Until when all calls are in what is read from now on."""
    landed_ms = await landed_until_ms(request.services)
    return moment(min(landed_ms, request.services.clock()))


def answer(as_of: datetime, content: Any) -> ExactResponse:
    """An answer; `xproxy-as-of` says until when all calls are in it."""
    return ExactResponse(content, headers={"xproxy-as-of": as_of.isoformat()})
