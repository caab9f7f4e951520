"""`Idempotency-Key` through the real clients and the whole service."""

from __future__ import annotations

from tests.acceptance import clients
from tests.acceptance.tenant import Tenant
from tests.standin.process import Standin


def test_a_repeated_call_is_made_and_charged_once(tenant: Tenant, standin: Standin) -> None:
    """Once the application has opted in, at once: the same answer again, by both SDKs, streamed or
    not; the provider's books, the limit and the rows have each call once."""
    tenant.limit("team")
    headers = {"xProxy-Limit-IDs": "team"}
    path = f"applications/{tenant.application_id}"
    tenant.service.manage("PATCH", path, {"idempotency": True})
    gpt, claude = clients.openai_client(tenant), clients.anthropic_client(tenant)

    said = []
    for _ in range(2):
        once = headers | {"Idempotency-Key": "order-1"}
        chat = clients.chat(gpt, extra_headers=once)
        message = clients.message(claude, extra_headers=headers | {"Idempotency-Key": "order-2"})
        stream = headers | {"Idempotency-Key": "order-3"}
        chunks = [*clients.chat(gpt, stream=True, extra_headers=stream)]
        said.append((chat, message, chunks))

    assert said[0] == said[1]
    standin.wait_idle()
    billed = sum(entry.cost_pico or 0 for entry in standin.ledger())
    assert len(standin.ledger()) == len(tenant.rows(3)) == 3
    assert int(tenant.totals("team")["cost"]["total"]["base"].scaleb(12)) == billed


def test_an_sdk_that_tries_again_gets_the_first_tries_answer(
    tenant: Tenant, standin: Standin
) -> None:
    """A client that gave up waiting asks again by itself: its first try is seen through, the second
    is told so and waits, a later one has the answer. It is made once, paid for once."""
    path = f"applications/{tenant.application_id}"
    tenant.service.manage("PATCH", path, {"idempotency": True})
    standin.script({"delay_ms": 2_000})
    with clients.openai_client(tenant, max_retries=4, timeout=1) as client:
        answer = clients.chat(client, extra_headers={"Idempotency-Key": "order-1"})
    [call] = standin.ledger()
    row = tenant.row()
    assert answer.id == call.id
    assert (row["retry_count"], row["cost_pico"]) == (0, str(call.cost_pico))
