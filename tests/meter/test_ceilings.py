"""A ceiling is a true bound: of recorded calls, of generated ones over all the catalogue."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from metering.core.estimate import Learned
from metering.core.limits import Bounds
from metering.core.prices import PriceList
from metering.ledger import Ledger
from metering.meter import Meter, Priced, price_of
from metering.meter.pricing import priced_row, true_price
from metering.providers import DIALECTS
from metering.providers.base import Ask, Usage
from pricing.load import load
from tests.builders import APPLICATION, row
from tests.providers.replay import body_of
from tests.standin import recordings
from tests.standin.recordings import Recording

AT_MS = 1_795_000_000_000
METER = Meter(PriceList(load()), Ledger.__new__(Ledger), Learned())
"""Bounds ask no ledger."""
REFUSED = {"tools", "reasoning", "previous_response_id", "conversation", "context_management"}
"""What recorded requests have that nothing bounds."""


def bounds_of(path: str, body: dict[str, Any], counted: dict[str, int]) -> Bounds:
    """The bounds of a request to OpenAI that was found to count so much."""
    sent = json.dumps(body).encode()
    ask = msgspec.structs.replace(asked("openai", path, sent), counted=counted)
    return METER.bounds(row(at_ms=AT_MS), ask, price("openai", ask), 0, ceiling=True)


@pytest.mark.parametrize(("said_s", "most_s"), [(3, 20), (60, 60)])
def test_a_recording_that_says_little(said_s: int, most_s: int) -> None:
    """Likely is what its header says; at most it lasts as long as so many bytes may."""
    body = {"model": "whisper-1", "prompt": "x" * 9_500}
    bounds = bounds_of("/v1/audio/transcriptions", body, {"audio_seconds": said_s})
    a_second_pico = 10**8
    assert bounds.likely_pico == said_s * a_second_pico
    assert bounds.ceiling_pico == most_s * a_second_pico


def recorded() -> list[Any]:
    """Every recorded call of a metered endpoint that the provider served."""
    found = [
        pytest.param(it, id=it.name)
        for it in recordings.load("openai") + recordings.load("anthropic")
        if it.status == 200 and DIALECTS[it.provider].endpoint(it.method, it.path).kind == "metered"
    ]
    reason = "no recordings; set XPROXY_RECORDINGS to their folder"
    return found or [pytest.param(None, marks=pytest.mark.skip(reason=reason))]


def asked(provider: str, path: str, body: bytes) -> Ask:
    """What a request asks for, as it is read under a hard cap."""
    dialect = DIALECTS[provider]
    endpoint = dialect.endpoint("POST", path)
    ask = dialect.ask(endpoint, body)
    return msgspec.structs.replace(ask, reach=dialect.reach(endpoint, body, ask))


def price(provider: str, ask: Ask) -> Priced:
    """The price of what is asked for."""
    return price_of(METER.prices, APPLICATION, provider, ask.model, AT_MS)


def used(recording: Recording, ask: Ask) -> Usage:
    """What the recorded answer states."""
    dialect = DIALECTS[recording.provider]
    endpoint = dialect.endpoint("POST", recording.path)
    if not recording.streamed:
        return dialect.read(endpoint, recording.body, ask)
    tap = dialect.tap(endpoint, ask)
    tap.feed(recording.body)
    tap.finish()
    return tap.usage()


@pytest.mark.parametrize("recording", recorded())
def test_no_recorded_call_cost_more_than_its_ceiling(recording: Recording) -> None:
    """Nor had more tokens, had its cap been the output that came; else it would be refused."""
    ask = asked(recording.provider, recording.path, body_of(recording))
    priced, usage = price(recording.provider, ask), used(recording, ask)
    blank = row(provider=recording.provider, at_ms=AT_MS, model_requested=ask.model)
    if usage.counts is None or METER.unbounded(blank, ask, priced) is not None:
        assert usage.pending or ask.reach.field in REFUSED
        return
    output = usage.counts.get("output", 0)
    tight = msgspec.structs.replace(ask, max_output_tokens=-(-output // ask.choices))
    bounds = METER.bounds(blank, tight, priced, 0, ceiling=True)
    found = true_price(blank, usage, priced)
    cost = priced_row(blank, usage, found, usage.counts, estimated=False).cost_pico
    assert cost is not None
    assert cost <= bounds.ceiling_pico
    assert usage.counts["input"] + output <= bounds.ceiling_tokens


MILLION = 10**6
ADVISED: dict[str, Any] = {
    "model": "claude-haiku-4-5",
    "max_tokens": 500,
    "messages": [{"role": "user", "content": "Hello"}],
}


def advised(**tool: Any) -> Ask:
    """A message whose model may ask another."""
    named = {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-4-8"}
    return asked(
        "anthropic", "/v1/messages", json.dumps({**ADVISED, "tools": [named | tool]}).encode()
    )


@pytest.mark.parametrize(
    ("tool", "tokens_each"),
    [({"max_uses": 3, "max_tokens": 2_048}, 2_048), ({"max_uses": 3}, 128_000)],
)
def test_advice_is_bounded_by_its_uses(tool: dict[str, Any], tokens_each: int) -> None:
    """Each reads the adviser's window at its dearest, a cache write for an hour, and writes so many
    tokens at its price; that is on top of what the call's own model may cost."""
    ask, without = advised(**tool), advised(max_uses=0)
    blank, priced = row(provider="anthropic", at_ms=AT_MS), price("anthropic", ask)
    assert METER.unbounded(blank, ask, priced) is None
    most = METER.bounds(blank, ask, priced, 0, ceiling=True).ceiling_pico
    alone = msgspec.structs.replace(ask, reach=msgspec.structs.replace(ask.reach, advice=()))
    own = METER.bounds(blank, alone, priced, 0, ceiling=True).ceiling_pico
    opus = METER.prices.book.find("anthropic", "claude-opus-4-8", AT_MS)
    assert opus is not None
    assert opus.context_window == MILLION
    assert most - own == opus.ceiling(3 * MILLION, 3 * tokens_each)
    assert METER.bounds(blank, without, priced, 0, ceiling=True).ceiling_pico < own


@pytest.mark.parametrize("model", ["claude-nobody-9", ""])
def test_advice_of_a_model_without_a_price_is_not_bounded(model: str) -> None:
    """The reason names it."""
    ask = advised(max_uses=1, model=model)
    reason = METER.unbounded(row(provider="anthropic"), ask, price("anthropic", ask))
    assert reason == f"no price is known for the adviser {model}"


def test_a_call_that_was_advised_costs_at_most_its_ceiling() -> None:
    """The recorded one, had it said how often, and its adviser dearer than it is."""
    found = [it for it in recordings.load("anthropic") if b"advisor_message" in it.body]
    if not found:
        pytest.skip("no recordings; set XPROXY_RECORDINGS to their folder")
    for recording in found:
        body = json.loads(body_of(recording))
        for tool in body["tools"]:
            tool["max_uses"] = 1
        ask = asked("anthropic", recording.path, json.dumps(body).encode())
        priced, usage = price("anthropic", ask), used(recording, ask)
        blank = row(provider="anthropic", at_ms=AT_MS, model_requested=ask.model)
        assert usage.counts is not None
        assert usage.other_models
        assert METER.unbounded(blank, ask, priced) is None
        billed = priced_row(blank, usage, priced, usage.counts, estimated=False)
        assert billed.cost_pico <= METER.bounds(blank, ask, priced, 0, ceiling=True).ceiling_pico
