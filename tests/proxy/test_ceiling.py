"""What a hard cap asks of a call before it holds it: where that is read, and what is refused."""

from __future__ import annotations

import json
import threading

import pytest

from metering.core.limits import Limit
from metering.core.reach import Reach
from metering.providers import DIALECTS
from metering.providers.base import Ask, Endpoint
from metering.providers.openai import OpenAI
from metering.proxy.ceiling import DEPLOYMENT, capping, with_reach
from metering.tokens import THREAD_FROM_BYTES
from tests.builders import limit, row

METERED = Endpoint("chat.completions", "metered")


class Watched(OpenAI):
    """A dialect that remembers which thread read a request's reach."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def reach(self, endpoint: Endpoint, body: bytes, ask: Ask) -> Reach:
        """See `base.Dialect`."""
        self.threads.append(threading.get_ident())
        return super().reach(endpoint, body, ask)


@pytest.mark.parametrize("size", [10, THREAD_FROM_BYTES, 10 * 1024 * 1024])
async def test_large_bodies_are_read_off_the_loop(size: int) -> None:
    """From a size on a thread reads them, as it counts their tokens; the reach is the same."""
    dialect = Watched()
    parts = [
        {"type": "text", "text": "x" * size},
        {"type": "image_url", "image_url": {"url": "https://x"}},
    ]
    messages = [{"role": "user", "content": parts}]
    body = json.dumps({"model": "gpt-4o", "messages": messages}).encode()
    ask = await with_reach(dialect, METERED, Ask(model="gpt-4o"), body, row())
    assert ask.reach == Reach(input_tokens=1_500)
    assert (dialect.threads == [threading.get_ident()]) is (len(body) < THREAD_FROM_BYTES)


@pytest.mark.parametrize(
    ("provider", "resource", "reason"),
    [
        ("azure.openai", None, DEPLOYMENT),
        ("azure.openai", "gpt-4o", ""),
        ("openai", None, ""),
    ],
)
async def test_a_deployment_must_be_named(provider: str, resource: str | None, reason: str) -> None:
    """Its model, and so its price, is only in its answer."""
    body = b'{"model":"gpt-4o","messages":[]}'
    blank = row(price_as_resource=resource)
    ask = await with_reach(DIALECTS[provider], METERED, Ask(model="gpt-4o"), body, blank)
    assert ask.reach.unbounded == reason


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
