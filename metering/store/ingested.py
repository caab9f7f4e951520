"""Under which names calls that were made elsewhere have been reported, each once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metering.store import Store
from metering.store.requests import Name
from sql import queries


async def claim(
    store: Store, application_id: str, asked: Mapping[str, Sequence[Name]]
) -> dict[str, str]:
    """Put down the names of requests that are about to be charged, by request id; gives, by the
    same, which request each is: itself, or the one that was put down before under any of its names.

    All names of a call stand for one request from then on. Of requests that share a name the first
    has it.
    """
    owners: dict[Name, str] = {}
    for request_id, names in asked.items():
        for name in names:
            owners.setdefault(name, request_id)
    sources, ids = [it[0] for it in owners], [it[1] for it in owners]
    async with store.transaction() as connection:
        await connection.execute(
            queries["claim_ingested"], application_id, sources, ids, [*owners.values()]
        )
        records = await connection.fetch(queries["read_ingested"], application_id, sources, ids)
        there = {(it["source"], it["id"]): str(it["request_id"]) for it in records}
        found = {}
        for request_id, names in asked.items():
            stands_for = [there[name] for name in names]
            found[request_id] = next((it for it in stands_for if it != request_id), request_id)
            if request_id in stands_for and found[request_id] != request_id:
                await connection.execute(
                    queries["move_ingested"],
                    application_id,
                    [name[0] for name in names],
                    [name[1] for name in names],
                    found[request_id],
                    request_id,
                )
    return found
