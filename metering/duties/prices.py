"""Prices that are live: which list is in force, loading another, and hearing of it.

A list that was loaded is a row in Postgres, whole; while there is none, the package's own files are
in force, as version 0. Every worker asks which one it is when it is told to, and every 20 s, so
that a Redis that is away delays a price by that and no more. The new book is made in a thread and
put in place at once; calls under way keep the one they were admitted with.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeAlias

import msgspec
import structlog

from metering.core.price_changes import Change, added, changes
from metering.core.prices import LimitRates, Negotiated, OwnRates, PriceList, own_name
from metering.core.resources import by_application
from metering.errors import InvalidRequest, NotFound
from metering.store import Store, resources
from metering.store import prices as stored
from metering.store.prices import PriceState, PriceVersion
from pricing.book import PriceBook, day_of
from pricing.catalogue import BASE, PriceDataError, PriceFile
from pricing.load import digest, parse_all, place_in, put

log = structlog.get_logger()
AGE_S = 20.0
SHOWN = 5
"""So many of the prices that a list may not change are named in its refusal."""
Files: TypeAlias = Mapping[str, bytes]
"""A price list's files, by name."""


class Prices:
    """One worker's view of the prices in force: `now`."""

    def __init__(self, store: Store, packaged: Files) -> None:
        """`packaged` are the package's own files, in force until Postgres was asked."""
        self._store = store
        self._turn = asyncio.Lock()
        self._state = PriceState(0, 0, 0, 0, 0)
        self.packaged = packaged
        self.version = version_0(packaged)
        """Of the list in force."""
        self.now = PriceList(_book(self.version, packaged))
        self.use: Callable[[PriceList], None] = lambda _: None
        """Called with every list that comes into force later."""

    @property
    def newer(self) -> bool:
        """Whether the package has other files than when the list in force was loaded, or in it."""
        return digest(self.packaged) not in (self.version.packaged, self.version.digest)

    async def refresh(self) -> None:
        """Put in force what Postgres says; what cannot be read changes nothing."""
        async with self._turn:
            state = await stored.state(self._store)
            if state == self._state:
                return
            version, book = self.version, self.now.book
            if state.version != version.version:
                found, files = await read(self._store, self.packaged, state.version)
                try:
                    version, book = found, await asyncio.to_thread(_book, found, files)
                except PriceDataError as error:  # another release wrote it
                    log.error("price_list_unreadable", version=found.version, reason=str(error))  # noqa: TRY400
            own = negotiated(await stored.own(self._store))
            custom = by_application(await resources.versions(self._store))
            self._state, self.version, self.now = state, version, PriceList(book, own, custom)
            self.use(self.now)
            log.info("prices_in_force", version=book.version, own_prices=len(own))
            if self.newer:
                log.warning("packaged_prices_are_newer", in_force=book.version)

    async def follow(self, told: asyncio.Event) -> None:
        """Wait until prices may have changed, then look."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AGE_S):
                await told.wait()
        told.clear()
        await self.refresh()


def negotiated(found: Iterable[stored.OwnPrices]) -> dict[str, Negotiated]:
    """What is negotiated, by application, ready to price calls."""
    own: dict[str, Negotiated] = {}
    for it in found:
        rates = OwnRates(it.rates, own_name(it.revision))
        its = own.get(it.application_id, Negotiated())
        if it.kind == "application":
            its = its._replace(application=rates)
        elif it.kind == "credential":
            its = its._replace(credentials={**its.credentials, it.name: rates})
        elif it.limit_created_ms is not None:
            limit = LimitRates(it.limit_created_ms, rates)
            its = its._replace(limits={**its.limits, it.name: limit})
        own[it.application_id] = its
    return own


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A price list to load: files, or the version to go back to."""

    files: Files = {}
    """By name; each takes the place of its provider's."""
    version: int | None = None
    accept: Collection[str] = ()
    """Models, `provider/id`, whose prices may move tenfold, to zero, or go."""
    note: str = ""
    loaded_by: str
    dry_run: bool = False
    """Whether to judge it and no more."""


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a price list that was to be loaded."""

    version: PriceVersion
    """The one in force now: the new one, or the one before, if that has the same files."""
    unchanged: bool
    changes: list[Change]
    added: list[str]
    """Models, `provider/id`, that had no prices."""


async def load(store: Store, packaged: Files, upload: Upload, now_ms: int) -> Loaded:
    """Put a price list in force, if nothing is wrong with it; else InvalidRequest says what is.

    Conflict if another one came meanwhile, which it was not judged against.
    """
    before, files = await read(store, packaged, (await stored.state(store)).version)
    back = None
    if upload.version is not None:
        _, back = await read(store, packaged, upload.version)
    files, found = await asyncio.to_thread(_judged, (files, packaged), back, upload, now_ms)
    version = PriceVersion(
        version=before.version + 1,
        digest=digest(files),
        packaged=digest(packaged),
        note=upload.note,
        loaded_ms=now_ms,
        loaded_by=upload.loaded_by,
    )
    unchanged = version.digest == before.digest and version.packaged == before.packaged
    if unchanged or upload.dry_run:
        version = before
    else:
        version = await stored.add(store, version, files)
    return Loaded(version=version, unchanged=unchanged, changes=found[0], added=found[1])


async def read(store: Store, packaged: Files, version: int) -> tuple[PriceVersion, Files]:
    """A version and its files; 0 are the package's own."""
    if version == 0:
        return version_0(packaged), packaged
    found = await stored.read(store, version)
    if found is None:
        raise NotFound(f"There is no price version {version}", code="price_version_not_found")
    return found


def version_0(packaged: Files) -> PriceVersion:
    """What the package's own files are as long as no list was loaded."""
    name = digest(packaged)
    return PriceVersion(
        version=0, digest=name, packaged=name, note="", loaded_ms=0, loaded_by="package"
    )


def _book(version: PriceVersion, files: Files) -> PriceBook:
    return PriceBook(parse_all(files), f"{version.version}-{version.digest}")


def _judged(
    bases: tuple[Files, Files], back: Files | None, upload: Upload, now_ms: int
) -> tuple[Files, tuple[list[Change], list[str]]]:
    """The files of the new list, what it changes and which models it adds.

    It is judged against the first of `bases` that can be read: the list in force may be none, if
    another release wrote it.
    """
    before, old = _readable(bases)
    try:
        files = put(upload.files, before) if back is None else back
        new = parse_all(files)
    except PriceDataError as error:
        raise InvalidRequest(str(error), code="invalid_prices", field="files") from None
    found = changes(old, new, now_ms)
    if back is None:  # what was in force once was meant
        _refuse([it for it in found if it.drastic and it.model not in upload.accept], upload.files)
    return files, (found, added(old, new))


def _readable(bases: tuple[Files, Files]) -> tuple[Files, list[PriceFile]]:
    try:
        return bases[0], parse_all(bases[0])
    except PriceDataError:
        return bases[1], parse_all(bases[1])


def _refuse(drastic: list[Change], uploaded: Files) -> None:
    if not drastic:
        return
    names = list(dict.fromkeys(it.model for it in drastic))
    shown = "; ".join(_words(it, uploaded) for it in drastic[:SHOWN])
    more = len(drastic) - SHOWN
    raise InvalidRequest(
        f"{shown}{f'; and {more} more' if more > 0 else ''}. A price that moves tenfold, to zero, "
        f"or goes is loaded only if it is accepted by name: {', '.join(names)}",
        code="drastic_price_change",
        field="accept",
    )


def _words(change: Change, uploaded: Files) -> str:
    """Where the price is in the files that came, if it is in one of them, and how it moves."""
    place = place_in(uploaded, change.model, day_of(change.at_ms), change.service_tier)
    where = f"{place}: " if place else ""
    if not change.unit:
        return f"{where}{change.model} is gone"
    tier = "" if change.service_tier == BASE else f" ({change.service_tier})"
    after = change.after or "no price"
    return f"{where}{change.model} {change.unit}{tier}: {change.before} -> {after}"
