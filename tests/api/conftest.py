"""The control plane on a real database, with a ledger and a directory of a few lines."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Literal, cast

import httpx
import msgspec
import pytest

from metering import api
from metering.api.services import Services
from metering.core.addresses import Visitor
from metering.core.credentials import Credential
from metering.core.estimate import Learned
from metering.core.limits import Charge, Limit, Totals
from metering.core.record import UsageRow
from metering.duties.audit import Report
from metering.duties.prices import Prices
from metering.errors import StoreAway
from metering.keyring import Keyring
from metering.ledger import Correction, Hold
from metering.meter import Archive, Meter, Reports
from metering.settings import Settings
from metering.store import Store, applications, requests
from metering.store.usage import Entry
from metering.upstream import Resolver, Upstream
from metering.vault import Vault
from pricing.load import read

NOW_MS = 1_790_000_000_000
MINE = "00000000-0000-7000-8000-000000000001"
OTHER = "00000000-0000-7000-8000-000000000002"
MASTER = "master-secret-of-the-bench-0123456789"
PACKAGED = read()


@dataclass(frozen=True)
class Known:
    """A caller."""

    application_id: str
    key_id: str | None
    role: Literal["admin", "app", "read"]
    permissions: frozenset[str] = frozenset()
    limit_ids: tuple[str, ...] = ()


@dataclass
class Ledger:
    """Counters in a dictionary."""

    counters: dict[tuple[str, str], Totals] = field(default_factory=dict)
    records: dict[tuple[str, str], tuple[UsageRow, tuple[Charge, ...]]] = field(
        default_factory=dict
    )
    ids: dict[tuple[str, str, str], str] = field(default_factory=dict)
    away: bool = False
    at_ms: int = NOW_MS

    async def define(self, limit: Limit) -> None:
        """Keep counters for a limit."""
        if self.away:
            raise StoreAway
        mark = (limit.application_id, limit.limit_id)
        self.counters.setdefault(mark, Totals(epoch=limit.epoch))

    async def present(self, limits: Sequence[Limit]) -> list[Totals]:
        """The counters; a window that has ended begins anew."""
        for it in limits:
            mark, epoch = (it.application_id, it.limit_id), it.epoch_at(self.at_ms)
            if it.window and not it.window.part_ms and self.counters[mark].epoch < epoch:
                self.counters[mark] = Totals(epoch=epoch)
        return [self.counters[it.application_id, it.limit_id] for it in limits]

    async def now_ms(self) -> int:
        """The time that was put here."""
        return self.at_ms

    async def reset(self, limit: Limit, epoch: int) -> Totals:
        """Zero the counters."""
        before = self.counters[limit.application_id, limit.limit_id]
        self.counters[limit.application_id, limit.limit_id] = Totals(epoch=epoch)
        return before

    async def forget(self, application_id: str, limit_id: str) -> None:
        """Drop the counters."""
        self.counters.pop((application_id, limit_id), None)

    async def record(
        self, application_id: str, request_id: str
    ) -> tuple[UsageRow, tuple[Charge, ...]] | None:
        """A call that was put here; all others have landed."""
        return self.records.get((application_id, request_id))

    async def reprice(self, run: str, call: Entry, truth: UsageRow, at_ms: int) -> Correction:
        """No call is repriced here."""
        raise AssertionError

    async def load(self, application_id: str, limit_ids: object) -> None:
        """All counters are here."""

    async def settle(self, hold: Hold, row: UsageRow, tokens: int) -> bytes | None:
        """Remember the call."""
        self.records[row.application_id, row.request_id] = (row, ())
        return b""

    async def unlanded(self) -> int:
        return 0

    async def unlanded_since_ms(self) -> int | None:
        """All rows have landed."""
        return None

    async def request_ids_of(
        self, store: Store, application_id: str, names: Collection[requests.Name]
    ) -> dict[requests.Name, str]:
        """Ids that were put here, and those of rows."""
        found = {
            it: self.ids[application_id, *it] for it in names if (application_id, *it) in self.ids
        }
        return await requests.request_ids_of(store, application_id, names) | found


@dataclass
class Directory:
    """Callers in a dictionary, and what was said to have changed."""

    callers: dict[str, Known] = field(default_factory=dict)
    anyone: Known | None = None
    told: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    credentials: dict[tuple[str, str], Credential] = field(default_factory=dict)
    definitions: dict[tuple[str, str], Limit] = field(default_factory=dict)
    away: bool = False

    async def admit(self, key: str, visitor: Visitor) -> Known | None:
        """Who was put here."""
        self.asked.append(key)
        return self.callers.get(key, self.anyone)

    async def limits(self, application_id: str, limit_ids: Iterable[str]) -> list[Limit | None]:
        """Those that were put here."""
        if self.away:
            raise StoreAway
        return [self.definitions.get((application_id, limit_id)) for limit_id in limit_ids]

    async def credential(self, application_id: str, slug: str) -> Credential | None:
        """What was put here."""
        return self.credentials.get((application_id, slug))

    async def changed(self, *topics: str) -> None:
        """Note it."""
        self.told += topics


@dataclass
class Auditor:
    """Gives the report that was put here."""

    report: Report = field(default_factory=lambda: Report(differences=[]))
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    async def check(self, application_id: str | None = None) -> Report:
        """Note who is audited."""
        self.asked.append(("check", application_id))
        return self.report

    async def repair(self, application_id: str | None = None) -> Report:
        """Repair all that can be."""
        self.asked.append(("repair", application_id))
        found = self.report.differences
        return Report(
            differences=[it for it in found if not it.repair],
            repaired=[it for it in found if it.repair],
        )


@dataclass
class Readiness:
    """What stands in the way of readiness."""

    found: list[str] = field(default_factory=list)

    async def problems(self) -> Sequence[str]:
        """What was put here."""
        return self.found


CALLERS = {
    "admin-key": Known(MINE, None, "admin"),
    "app-key": Known(MINE, "k-app", "app"),
    "bound-key": Known(MINE, "k-bound", "app", limit_ids=("bound",)),
    "read-key": Known(MINE, "k-read", "read"),
    "other-key": Known(OTHER, "k-other", "app"),
}


class Bench:
    """The control plane, its parts, and a way to ask it."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.app = api.build(services)
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://xproxy.test"
        )

    @property
    def ledger(self) -> Ledger:
        """The ledger's double."""
        assert isinstance(self.services.ledger, Ledger)
        return self.services.ledger

    @property
    def auditor(self) -> Auditor:
        """The auditor's double."""
        assert isinstance(self.services.auditor, Auditor)
        return self.services.auditor

    @property
    def directory(self) -> Directory:
        """The directory's double."""
        assert isinstance(self.services.directory, Directory)
        return self.services.directory

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = "app-key",
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """A request; a body of bytes is sent as it is, anything else as JSON."""
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return await self.http.request(
            method,
            path,
            content=None if body is None else content,
            headers={**({"xProxy-Api-Key": key} if key else {}), **(headers or {})},
        )

    async def limit(self, **members: Any) -> dict[str, Any]:
        """A limit that was created, as answered."""
        body = {"limit_name": "l", "limit_id": "l", "max": 10, **members}
        response = await self.ask("POST", "/api/v1/limits", body)
        assert response.status_code == 201, response.text
        limit: dict[str, Any] = response.json()["limit"]
        return limit

    def spend(self, limit_id: str, **totals: Any) -> None:
        """Set the counters of a limit of the first application."""
        before = self.ledger.counters[MINE, limit_id]
        self.ledger.counters[MINE, limit_id] = msgspec.structs.replace(before, **totals)


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    """A store with two applications."""
    store = await Store.open(database, connections=2)
    await applications.create(store, MINE, "mine", NOW_MS)
    await applications.create(store, OTHER, "other", NOW_MS)
    yield store
    await store.close()


def unreachable(_: httpx.Request) -> httpx.Response:
    """No provider is called here."""
    raise AssertionError


@pytest.fixture
async def services(store: Store) -> Services:
    """The parts: a clock that ticks once per look, randomness that counts."""
    ticks, draws = count(NOW_MS), count(1)
    vault = Vault(store, Keyring([MASTER]), os.urandom)
    await vault.prepare()
    upstream = Upstream(httpx.MockTransport(unreachable))
    ledger, directory = Ledger(), Directory(dict(CALLERS))
    prices = Prices(store, PACKAGED)
    meter = Meter(prices.now, cast(Any, ledger), Learned())
    archive = Archive(Settings().bodies_days, vault, os.urandom)
    return Services(
        settings=Settings(),
        store=store,
        ledger=ledger,
        directory=directory,
        readiness=Readiness(),
        prices=prices,
        reports=Reports(Settings(), cast(Any, directory), meter, archive),
        archive=archive,
        auditor=Auditor(),
        vault=vault,
        probe=api.Probe(Settings(), upstream, Resolver()),
        pepper=b"pepper",
        cursor_secret=b"secret of cursors",
        clock=lambda: next(ticks),
        random=lambda size: next(draws).to_bytes(size, "big"),
    )


@pytest.fixture
async def bench(services: Services) -> AsyncIterator[Bench]:
    """The control plane on those parts."""
    bench = Bench(replace(services))
    async with bench.http:
        yield bench
