"""The control plane with nothing doubled, and what its ledger and rows say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from metering.api.services import Services
from metering.core.estimate import Learned
from metering.core.keys import local_token
from metering.core.limits import Limit
from metering.directory import Directory
from metering.duties import Lease
from metering.duties.writer import Writer
from metering.keyring import Keyring
from metering.ledger import Ledger
from metering.meter import Meter, Reports
from metering.redis import Redis
from metering.redis.outbox import Outbox
from metering.settings import Settings
from metering.spool import Spool
from metering.store import limits as stored_limits
from metering.store import rollups, usage
from tests.api.conftest import MINE, NOW_MS, Bench

SECRET = b"0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class House:
    """The control plane on real stores, and what lands rows."""

    bench: Bench
    writer: Writer
    key: str
    ledger: Ledger
    services: Services

    async def ask(self, path: str, body: object, **headers: str) -> Any:
        """A POST with the key that may report; its answer's body, which must be a success."""
        answer = await self.bench.ask("POST", path, body, key=self.key, headers=headers)
        assert answer.status_code in (200, 201), answer.text
        return msgspec.json.decode(answer.content)

    async def refused(self, path: str, body: object, **headers: str) -> tuple[int, str, str]:
        """Status, code and message of a refusal."""
        answer = await self.bench.ask("POST", path, body, key=self.key, headers=headers)
        error = answer.json()["xproxy_error"]
        return answer.status_code, error["code"], error["message"]

    async def limit(self, limit_id: str, **members: Any) -> Limit:
        """A limit of a dollar, live."""
        body = {"limit_id": limit_id, "limit_name": limit_id, "max": 1} | members
        answer = await self.bench.ask("POST", "/api/v1/limits", body, key=self.key)
        assert answer.status_code == 201, answer.text
        [found] = (await stored_limits.get_many(self.services.store, MINE, [limit_id])).values()
        return found

    async def settled(self, limit: Limit) -> tuple[int, dict[str, int]]:
        """What a limit has counted."""
        [totals] = await self.ledger.present([limit])
        return totals.settled, {state: n for state, n in totals.counts.items() if n}

    async def rows(self) -> list[Any]:
        """All rows, landed."""
        while await self.writer.land():
            pass
        found = await usage.query(self.services.store, usage.Filters(), page_size=1_000)
        assert await rollups.differences(self.services.store) == (0, 0)
        return [it.row for it in found.entries]


@asynccontextmanager
async def built(services: Services, redis_url: str, folder: Path) -> AsyncIterator[House]:
    """The control plane with nothing doubled, and an `app` key that may report."""
    redis = Redis(redis_url, 5_000)
    store = services.store
    directory = Directory(
        store,
        redis,
        pepper=services.pepper,
        keyring=Keyring([SECRET.decode()]),
        admin_key=None,
        default_application=MINE,
        clock_ms=lambda: NOW_MS,
    )
    ledger = Ledger(redis, store, Spool(folder, "test"), hold_ttl_ms=30_000)
    meter = Meter(services.prices.now, ledger, Learned())
    services.prices.use = meter.use
    real = replace(
        services,
        ledger=ledger,
        directory=directory,
        reports=Reports(Settings(), directory, meter, services.archive),
        clock=lambda: NOW_MS,
    )
    await usage.ensure_partitions(store, NOW_MS)
    writer = Writer(Outbox(redis), store, Lease(redis, "writer", "test"))
    bench = Bench(real)
    async with bench.http:
        admin = local_token(SECRET, NOW_MS // 1000)
        body = {"name": "k", "permissions": ["ingest"]}
        made = (await bench.ask("POST", "/api/v1/keys", body, key=admin)).json()
        yield House(bench, writer, made["key"], ledger, real)
    await ledger.close()
    await redis.close()
