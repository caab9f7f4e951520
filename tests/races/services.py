"""Races through the whole service: two workers, its own stores, and a provider that keeps books."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import msgspec

from tests.chaos.load import CHAT, Target, request
from tests.chaos.rig import PATIENT, Rig
from tests.monitor import Monitor
from tests.races.truth import Asked, Call, Figures, Race, Told, Way, trace
from tests.standin.ledger import total_pico
from tests.standin.prices import bill

MODEL, CAP = "gpt-4.1-nano", 400
PROMPT = "Say something about the sea, and what it means to a robot who counts boats. " * 5
CALLS_MIN = 100
MAX_PICO = 3 * 10**9
SETTINGS = {"OPENAI_API_KEY": "sk-provider", "XPROXY_WORKERS": "2"} | PATIENT
LIMITS: dict[Way, dict[str, Any]] = {
    "check": {"limit_type": "allow"},
    "allow": {"limit_type": "allow"},
    "block": {"limit_type": "block"},
    "hard": {"limit_type": "block", "hard_cap": True},
}
_body = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode


@dataclass(frozen=True, kw_only=True)
class Billed(Call):
    """A call, and what the provider is told to bill; whether it streams."""

    usage: dict[str, int]
    streamed: bool


def some_calls(rng: random.Random, width: int) -> list[Billed]:
    """Calls whose usage is anything within their bounds."""
    return [_call(rng, 0.02 + 0.002 * width) for _ in range(max(CALLS_MIN, 2 * width))]


def _call(rng: random.Random, typical_s: float) -> Billed:
    out = min(CAP, int(rng.lognormvariate(4.8, 0.9)))
    usage = {"prompt_tokens": rng.randint(20, len(PROMPT) // 2), "completion_tokens": out}
    return Billed(
        cost_pico=bill("openai", MODEL, usage).cost_pico,
        seconds=typical_s * rng.uniform(0.2, 2),
        usage=usage,
        streamed=rng.random() < 0.5,
    )


def race(rig: Rig, way: Way, width: int, calls: Sequence[Billed]) -> Figures:
    """So many clients at once make these calls under one limit of a new application."""
    rig.standin.wait_idle()
    rig.standin.reset()
    limit = {"max": float(Decimal(MAX_PICO).scaleb(-12))} | LIMITS[way]
    application_id, target = rig.tenant(cap=limit)
    field = _Field(target, way, iter(enumerate(calls)))
    with Monitor(rig.urls[1]) as monitor:
        asyncio.run(field.run(width))
        rig.standin.wait_idle()
        rig.quiet()
        marks = trace(monitor.seen())
    figures = Race(way, MAX_PICO, field.asked).told_again(marks)
    figures.turned_away = field.turned_away
    billed_pico, spent_pico = total_pico(rig.standin.ledger()), rig.spent(application_id, "cap")
    if not billed_pico == spent_pico == figures.spent_pico:
        figures.broken.append(f"billed {billed_pico}, charged {spent_pico}: {figures.spent_pico}")
    return figures


class _Field:
    """The clients of a race, and what became of their calls."""

    def __init__(self, target: Target, way: Way, waiting: Iterator[tuple[int, Billed]]) -> None:
        self.asked: dict[str, Asked] = {}
        self.turned_away = 0
        self._target = target
        self._way = way
        self._waiting = waiting

    async def run(self, width: int) -> None:
        """All clients, each until nothing waits."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx.AsyncClient(
            base_url=self._target.url, timeout=120, limits=limits, trust_env=False
        ) as http:
            await asyncio.gather(*(self._client(http) for _ in range(width)))

    async def _client(self, http: httpx.AsyncClient) -> None:
        for number, call in self._waiting:
            if self._way == "check" and await self._used_up(http):
                self.turned_away += 1
            elif await self._call(http, f"n{number}", call):
                continue
            await asyncio.sleep(call.seconds / 4)

    async def _used_up(self, http: httpx.AsyncClient) -> bool:
        answer = await http.get("/api/v1/limits/cap", headers={"xProxy-Api-Key": self._target.key})
        spent: Decimal = _body(answer.content)["limit"]["totals"]["cost"]["total"]["base"]
        return _pico(spent) > MAX_PICO

    async def _call(self, http: httpx.AsyncClient, tag: str, call: Billed) -> bool:
        """Whether it was admitted."""
        told = {"usage": call.usage, "delay_ms": int(call.seconds * 1000), "chunk_delay_ms": 5}
        headers, body = request(self._target, tag, told, stream=call.streamed)
        body |= {"model": MODEL, "max_tokens": CAP}
        body["messages"] = [{"role": "user", "content": PROMPT}]
        answer = await http.post(CHAT.path, headers=headers, json=body)
        assert answer.status_code in (200, 400), answer.text
        admitted = answer.status_code == 200
        refusal = None if admitted else _told(answer)
        self.asked[answer.headers["xproxy-request-id"]] = Asked(call, refusal)
        return admitted


def _told(answer: httpx.Response) -> Told:
    (why,) = _body(answer.content)["xproxy_error"]["limits"]
    return Told(
        retryable=answer.headers["x-should-retry"] == "true",
        settled_pico=_pico(why["settled"]),
        held_pico=_pico(why["held"]),
        needed_pico=_pico(why["needed"]),
        holds=why["holds"],
    )


def _pico(usd: Decimal | int) -> int:
    return int(Decimal(usd).scaleb(12))
