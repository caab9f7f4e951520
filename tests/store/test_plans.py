"""Plans that are made while a table is empty are kept by connections, and have to do when it is
full: what is asked for thousands of ids a second looks each of them up by the index."""

from __future__ import annotations

import re

import pytest

from metering.store import Store, usage
from sql import queries
from tests.store.samples import landed

NAMES = """
    INSERT INTO ingested SELECT '{application}', 'system.openai', 'id' || n, gen_random_uuid()
    FROM generate_series(1, 20000) AS n"""
ROWS = """
    CREATE TEMP TABLE many AS SELECT u.* FROM usage AS u, generate_series(1, 20000);
    UPDATE many SET provider_id = gen_random_uuid(), request_id =
        (left(request_id::text, 14) || substr(gen_random_uuid()::text, 15))::uuid;
    INSERT INTO usage SELECT * FROM many"""
ASKED = [
    # query, types of its arguments, arguments of which there is one, what fills its table
    (
        "read_ingested",
        "uuid, text[], text[]",
        "'{application}', '{{system.openai}}', '{{id7}}'",
        NAMES,
    ),
    (
        "read_landed_among",
        "uuid, uuid[], integer[], text[]",
        "'{application}', '{{{request}}}', '{{1}}', '{{call}}'",
        ROWS,
    ),
    (
        "read_request_ids",
        "uuid, text[], text[]",
        "'{application}', '{{system.openai}}', '{{chatcmpl-1}}'",
        ROWS,
    ),
]


@pytest.mark.parametrize(("query", "types", "asked", "filled"), ASKED, ids=["names", "rows", "ids"])
async def test_a_plan_made_for_an_empty_table_does_for_a_full_one(
    store: Store, application_id: str, query: str, types: str, asked: str, filled: str
) -> None:
    """Of 20,000 rows that came since, the one that is asked for is read, and no other."""
    row = landed(application_id, provider_id="chatcmpl-1")
    names = {"application": application_id, "request": row[0].request_id}
    async with store.connection() as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE kept ({types}) AS {queries[query]}")
        await connection.execute(f"EXECUTE kept ({asked.format(**names)})")
        await usage.insert(store, [row])
        await connection.execute(filled.format(**names))
        found = await connection.fetch(f"EXECUTE kept ({asked.format(**names)})")
        plan = await connection.fetch(f"EXPLAIN ANALYZE EXECUTE kept ({asked.format(**names)})")
        await connection.execute("RESET plan_cache_mode; DEALLOCATE kept")
    assert len(found) == 1
    text = "\n".join(line[0] for line in plan)
    read = re.findall(r"actual time=\S+ rows=(\d+)", text)
    assert max(map(int, read)) == 1, text
    assert "Rows Removed" not in text, text
