"""What a hard cap asks of a call before it holds it: where that is read, and what is refused."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from metering.core.annotations import Annotations
from metering.core.estimate import Learned
from metering.core.limits import Limit
from metering.core.prices import PriceList
from metering.core.reach import PLAIN, Reach
from metering.directory import Caller
from metering.errors import NotAllowed
from metering.ledger import Ledger
from metering.meter import Meter, price_of
from metering.providers import DIALECTS
from metering.providers.base import Ask, Dialect, Endpoint
from metering.providers.openai import OpenAI
from metering.proxy.call import Call
from metering.proxy.ceiling import DEPLOYMENT, bounded, capping
from metering.surfaces import PAYI
from metering.tokens import THREAD_FROM_BYTES
from pricing.load import load
from tests.builders import APPLICATION, NOW_MS, limit, row

METER = Meter(PriceList(load()), Ledger.__new__(Ledger), Learned())
"""Bounds ask no ledger."""
HARD = limit(mode="hard")


class Watched(OpenAI):
    """A dialect that remembers which thread read a request's reach."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def reach(self, endpoint: Endpoint, body: bytes, ask: Ask) -> Reach:
        """See `base.Dialect`."""
        self.threads.append(threading.get_ident())
        return super().reach(endpoint, body, ask)


def call(
    dialect: Dialect,
    body: dict[str, Any],
    *limits: Limit,
    path: str = "/v1/chat/completions",
    resource: str | None = None,
    **caller: Any,
) -> Call:
    """A call of gpt-4o, as it is planned."""
    endpoint = dialect.endpoint("POST", path)
    sent = json.dumps({"model": "gpt-4o"} | body).encode()
    return Call(
        surface=PAYI,
        told=(),
        caller=Caller(**{"application_id": APPLICATION, "key_id": None, "role": "app"} | caller),
        annotations=Annotations(),
        dialect=dialect,
        endpoint=endpoint,
        ask=dialect.ask(endpoint, sent),
        limits=limits,
        priced=price_of(METER.prices, APPLICATION, "openai", "gpt-4o", NOW_MS),
        row=row(price_as_resource=resource),
        method="POST",
        url="",
        headers=[],
        body=sent,
        stored_key=None,
        started_s=0.0,
    )


@pytest.mark.parametrize("size", [10, THREAD_FROM_BYTES, 10 * 1024 * 1024])
async def test_large_bodies_are_read_off_the_loop(size: int) -> None:
    """From a size on a thread reads them, as it counts their tokens; the reach is the same."""
    dialect = Watched()
    image = {"type": "image_url", "image_url": {"url": "https://x"}}
    content = [{"type": "text", "text": "x" * size}, image]
    planned = call(dialect, {"messages": [{"role": "user", "content": content}]}, HARD)
    found = await bounded(planned, METER)
    assert found.ask.reach == Reach(input_tokens=1_500)
    here = dialect.threads == [threading.get_ident()]
    assert here is (len(planned.body) < THREAD_FROM_BYTES)


@pytest.mark.parametrize(
    "limits", [(), (limit(mode="block"),), (limit(mode="hard", unit="requests"),)]
)
async def test_other_calls_are_not_read_again(limits: tuple[Limit, ...]) -> None:
    """Only a hard cap on money or tokens asks what bounds a call."""
    dialect = Watched()
    planned = call(dialect, {"messages": []}, *limits)
    assert await bounded(planned, METER) is planned
    assert dialect.threads == []


@pytest.mark.parametrize(
    ("provider", "resource", "reason"),
    [
        ("azure.openai", None, DEPLOYMENT),
        ("azure.openai", "gpt-4o", None),
        ("openai", None, None),
    ],
)
async def test_a_deployment_must_be_named(
    provider: str, resource: str | None, reason: str | None
) -> None:
    """Its model, and so its price, is only in its answer."""
    planned = call(DIALECTS[provider], {"messages": []}, HARD, resource=resource)
    if reason is None:
        assert (await bounded(planned, METER)).ask.reach == PLAIN
        return
    with pytest.raises(NotAllowed, match="what a deployment is") as refused:
        await bounded(planned, METER)
    assert refused.value.field == "xProxy-PriceAs-Resource"


async def test_a_deployments_images_are_of_what_it_is() -> None:
    """Not of what it is called."""
    image = {"type": "image_url", "image_url": {"url": "https://x"}}
    body = {"messages": [{"role": "user", "content": [image]}]}
    planned = call(DIALECTS["azure.openai"], body, HARD, resource="gpt-4o-mini")
    assert (await bounded(planned, METER)).ask.reach == Reach(input_tokens=50_000)


@pytest.mark.parametrize(
    ("caller", "admitted"),
    [
        ({}, False),
        ({"role": "admin"}, False),
        ({"permissions": frozenset({"unmetered"})}, False),
        ({"permissions": frozenset({"unbounded"})}, True),
        ({"permissions": frozenset({"unbounded"}), "role": "admin"}, True),
    ],
)
async def test_who_may_make_unbounded_calls(caller: dict[str, Any], admitted: bool) -> None:  # noqa: FBT001
    """A key on which it is named, and no other, an admin's neither; its row says why."""
    body = {"input": "x", "previous_response_id": "resp_1"}
    planned = call(DIALECTS["openai"], body, HARD, path="/v1/responses", **caller)
    if admitted:
        [warning] = (await bounded(planned, METER)).row.warnings
        assert "hard cap team: previous_response_id" in warning
        return
    with pytest.raises(NotAllowed, match="permission `unbounded`") as refused:
        await bounded(planned, METER)
    assert (refused.value.code, refused.value.field) == ("unbounded_cost", "previous_response_id")


@pytest.mark.parametrize(
    ("given", "kind", "caps"),
    [
        (limit(mode="hard"), "metered", True),
        (limit(mode="hard", unit="tokens"), "metered", True),
        (limit(mode="hard", unit="requests"), "metered", False),
        (limit(mode="hard"), "free", False),
        (limit(mode="block"), "metered", False),
        (limit(), "metered", False),
    ],
)
def test_which_limits_need_a_ceiling(given: Limit, kind: str, caps: bool) -> None:  # noqa: FBT001
    """Hard caps on money and tokens, for calls that cost some."""
    endpoint = Endpoint("x", "metered" if kind == "metered" else "free")
    assert capping(endpoint, [limit("other"), given]) is (given if caps else None)
