"""Responses made in the background: charged as expected, then as they come out."""

from __future__ import annotations

import json
import time
from decimal import Decimal

import httpx
import pytest

from tests.acceptance.tenant import OPENAI, Tenant, new_tenant
from tests.standin.recordings import Recording, load
from tests.standin.service import Service

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(not load("openai"), reason="no recordings: set XPROXY_RECORDINGS"),
]
ASKED, WORKING, ENDED = 222, 223, 224
"""Recordings of one response: taken in, in progress, completed."""


def recorded(index: int) -> Recording:
    """One of the three."""
    return load("openai")[index]


def exact_pico() -> int:
    """What the response costs: gpt-4o, $2.50 and $10 per million tokens, nothing cached."""
    usage = json.loads(recorded(ENDED).body)["usage"]
    assert usage["input_tokens_details"]["cached_tokens"] == 0
    return int(usage["input_tokens"] * 2_500_000 + usage["output_tokens"] * 10_000_000)


def ask(tenant: Tenant, index: int, **headers: str) -> httpx.Response:
    """One of the recorded exchanges, by this tenant."""
    one = recorded(index)
    return tenant.service.http.request(
        one.method,
        OPENAI + one.path.removeprefix("/v1") + (f"?{one.query}" if one.query else ""),
        json=one.request,
        headers={
            "xProxy-Api-Key": tenant.key,
            "x-standin": json.dumps({"recording": one.name}),
            **headers,
        },
    )


def spent_pico(tenant: Tenant) -> int:
    """What the limit has counted."""
    return int(Decimal(str(tenant.totals("team")["cost"]["total"]["base"])).scaleb(12))


def settled(tenant: Tenant, pico: int) -> None:
    """Wait until the limit has counted this: a call is restated after its answer."""
    for _ in range(200):
        if spent_pico(tenant) == pico:
            return
        time.sleep(0.05)
    assert spent_pico(tenant) == pico


@pytest.mark.parametrize("landed", [False, True], ids=["at once", "landed"])
def test_the_end_of_a_background_response_is_charged_once(tenant: Tenant, landed: bool) -> None:  # noqa: FBT001
    """Looked at again and again, it is charged once; limit, rows and result agree."""
    tenant.limit("team")
    taken_in = ask(tenant, ASKED, **{"xProxy-Limit-IDs": "team"}).json()["xproxy_result"]
    expected = int(Decimal(str(taken_in["cost"]["total"]["base"])).scaleb(12))
    assert spent_pico(tenant) == expected != exact_pico()
    if landed:
        tenant.rows(1)

    assert ask(tenant, WORKING).json()["status"] == "in_progress"
    assert spent_pico(tenant) == expected
    for _ in range(3):
        answer = ask(tenant, ENDED)
        assert answer.content == recorded(ENDED).body
    settled(tenant, exact_pico())

    rows = [it for it in tenant.rows(6) if it["cost_pico"] != "0"]
    assert sum(int(it["cost_pico"]) for it in rows) == exact_pico()
    assert {it["request_id"] for it in rows} == {taken_in["request_id"]}
    assert spent_pico(tenant) == exact_pico()
    cost = tenant.result(taken_in["request_id"])["cost"]["total"]["base"]
    assert int(Decimal(str(cost)).scaleb(12)) == exact_pico()


def test_nobody_restates_the_calls_of_others(service: Service, tenant: Tenant) -> None:
    """Another application that sees the response is not charged, and charges nobody."""
    tenant.limit("team")
    ask(tenant, ASKED, **{"xProxy-Limit-IDs": "team"})
    before = spent_pico(tenant)
    other = new_tenant(service)

    ask(other, ENDED)

    [row] = other.rows(1)
    assert row["cost_pico"] == "0"
    assert spent_pico(tenant) == before
