"""What a call is charged whose stream was cut: an estimate, never more than its ceiling."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering import tokens
from metering.core.estimate import Learned
from metering.core.limits import Bounds
from metering.core.prices import PriceList
from metering.core.record import UsageRow
from metering.ledger import Hold, Ledger
from metering.meter import Meter, price_of
from metering.providers import DIALECTS
from metering.providers.base import Ask
from pricing.load import load
from tests.builders import APPLICATION, NOW_MS, row

CHAT = "/v1/chat/completions"
PATHS = {"openai": CHAT, "anthropic": "/v1/messages"}
MODELS = {"openai": "gpt-4o", "anthropic": "claude-haiku-4-5"}


class Forgetful(Ledger):
    """A ledger that keeps nothing: what is charged is in the row that it is given."""

    def __init__(self) -> None:
        pass

    async def settle(self, hold: Hold, row: UsageRow, tokens: int) -> bytes | None:
        """See `Ledger.settle`."""
        return b""


METER = Meter(PriceList(load()), Forgetful(), Learned())


def asked(provider: str, body: dict[str, Any]) -> Ask:
    """A request for a stream, as it is read under a hard cap."""
    dialect = DIALECTS[provider]
    endpoint = dialect.endpoint("POST", PATHS[provider])
    sent = json.dumps({"model": MODELS[provider], "stream": True, **body}).encode()
    ask = dialect.ask(endpoint, sent)
    return msgspec.structs.replace(ask, reach=dialect.reach(endpoint, sent, ask))


def stream(provider: str, delivered: list[str]) -> bytes:
    """What came of a stream that states nothing."""
    if provider == "openai":
        events: list[Any] = [
            {"id": "c", "choices": [{"index": 0, "delta": {"content": it}}]} for it in delivered
        ]
        return b"".join(b"data: %s\n\n" % json.dumps(it).encode() for it in events)
    events = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": it}}
        for it in delivered
    ]
    return b"".join(
        b"event: %s\ndata: %s\n\n" % (it["type"].encode(), json.dumps(it).encode()) for it in events
    )


async def charged(provider: str, ask: Ask, came: bytes) -> tuple[UsageRow, int]:
    """The row of a call of which so many bytes came, and the ceiling it was held with."""
    dialect = DIALECTS[provider]
    priced = price_of(METER.prices, APPLICATION, provider, ask.model, NOW_MS)
    asked_tokens = ask.tokens + await tokens.count_all(ask.texts, priced.model)
    blank = row(provider=provider, model_requested=ask.model)
    ceiling = METER.bounds(blank, ask, priced, asked_tokens, ceiling=True).ceiling_pico
    tap = dialect.tap(dialect.endpoint("POST", PATHS[provider]), ask)
    tap.feed(came)
    tap.finish()
    hold = Hold(blank, [], (), Bounds(), spooled=False)
    outcome = await METER.settle(hold, ask, tap.usage(), priced, asked_tokens)
    return outcome.row, ceiling


@settings(max_examples=200, deadline=None)
@given(
    provider=st.sampled_from(["openai", "anthropic"]),
    prompt=st.text(max_size=60),
    delivered=st.lists(st.text(min_size=1, max_size=80), max_size=8),
    cap=st.integers(1, 40),
    choices=st.integers(1, 3),
    kept_ppm=st.integers(0, 1_000_000),
)
async def test_no_cut_call_is_charged_more_than_its_ceiling(
    provider: str, prompt: str, delivered: list[str], cap: int, choices: int, kept_ppm: int
) -> None:
    """Whatever came, and wherever it was cut: our tokenizer may count more than the model wrote."""
    body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": cap}
    ask = asked(provider, body | ({"n": choices} if provider == "openai" else {}))
    whole = stream(provider, delivered)
    found, ceiling = await charged(provider, ask, whole[: len(whole) * kept_ppm // 1_000_000])
    assert found.estimated
    assert found.cost_pico <= ceiling
    assert found.units.get("output_text", 0) <= cap * ask.choices


@pytest.mark.parametrize(
    ("provider", "body", "most"),
    [
        ("openai", {"max_completion_tokens": 5}, 5),
        ("openai", {"max_tokens": 5, "n": 3}, 15),
        ("openai", {"max_tokens": 5, "prediction": {"type": "content", "content": "."}}, 5 + 35),
        ("openai", {}, 16_384),  # the model's own
        ("anthropic", {"max_tokens": 5}, 5),
        (
            "anthropic",
            {"max_tokens": 5, "tools": [{"type": "web_search_20250305", "max_uses": 2}]},
            5 * 11,
        ),
        ("anthropic", {"max_tokens": 5, "thinking": {"budget_tokens": 7}}, 12),
    ],
)
async def test_output_is_estimated_up_to_what_the_call_may_have(
    provider: str, body: dict[str, Any], most: int
) -> None:
    """Of 20,000 tokens, so many: those of each answer and pass, and what is beyond the cap."""
    ask = asked(provider, {"messages": [{"role": "user", "content": "Hello"}], **body})
    found, ceiling = await charged(provider, ask, stream(provider, ["word " * 20_000]))
    assert found.units["output_text"] == most
    assert found.cost_pico <= ceiling


async def test_what_a_provider_states_is_charged_whatever_the_cap() -> None:
    """Who bills beyond the cap has billed it: the limit's state is then `overrun`."""
    ask = asked("anthropic", {"messages": [], "max_tokens": 5})
    said = {"type": "message_delta", "delta": {}, "usage": {"input_tokens": 3, "output_tokens": 9}}
    came = b"event: message_delta\ndata: %s\n\n" % json.dumps(said).encode()
    found, _ = await charged("anthropic", ask, came)
    assert (found.estimated, found.units["output_text"]) == (True, 9)
