"""Two hundred calls at once on one limit with room for twenty."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from typing import Any, Self

import httpx
import pytest
from openai import APIStatusError, AsyncOpenAI, DefaultAsyncHttpxClient

from tests.chaos.audit import PICO, audit
from tests.chaos.load import OPENAI, Seen, Target, call
from tests.chaos.rig import Rig

AT_ONCE, ROOM, CAP = 200, 20, 100
MODEL, INPUT_PICO, OUTPUT_PICO = "gpt-4.1-nano", 100_000, 400_000
"""A model, and what a token of it costs."""


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One service for all races; each has an application of its own."""
    folder = tmp_path_factory.mktemp("races")
    with Rig(folder, outlive=False, OPENAI_API_KEY="sk-provider") as rig:
        yield rig


@pytest.fixture(autouse=True)
def books(rig: Rig) -> None:
    """Empty ones."""
    rig.standin.wait_idle()
    rig.standin.reset()


def said(number: int) -> dict[str, Any]:
    """The body of a call whose prompt has always as many tokens, and whose output is capped."""
    messages = [{"role": "user", "content": f"Say something of {number:03}."}]
    return {"model": MODEL, "messages": messages, "max_tokens": CAP}


async def burst(target: Target, usage: dict[str, int], count: int) -> list[Seen]:
    """So many calls at once, which the stand-in bills as told."""
    limits = httpx.Limits(max_connections=None)
    told = {"usage": usage, "delay_ms": 500}
    async with httpx.AsyncClient(timeout=60, limits=limits, trust_env=False) as client:
        calls = (call(client, target, f"n{n}", told, **said(n)) for n in range(count))
        return list(await asyncio.gather(*calls))


@pytest.fixture(scope="module")
def prompt_tokens(rig: Rig) -> int:
    """How many tokens we think such a prompt has, from what a call of it holds."""
    application_id, target = rig.tenant(probe={"max": 1, "limit_type": "block"})
    with Sampler(rig, application_id, "probe", "l") as sampler:
        asyncio.run(burst(target, {"prompt_tokens": 1, "completion_tokens": CAP}, 1))
    held = {amount for _, amount in sampler.samples} - {0}
    (likely,) = held
    tokens, rest = divmod(likely - CAP * OUTPUT_PICO, INPUT_PICO)
    assert rest == 0
    return tokens


class Sampler:
    """Looks at an amount of a limit's counters again and again: (when it asked, pico)."""

    def __init__(self, rig: Rig, application_id: str, limit_id: str, amount: str = "s") -> None:
        self.samples: list[tuple[float, int]] = []
        self._read = partial(rig.counters, application_id, limit_id)
        self._amount = amount
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def _sample(self) -> None:
        while not self._ended.wait(0.02):
            asked_s, its = time.monotonic(), self._read()
            whole, part = its[self._amount + "w"], its[self._amount + "p"]
            self.samples.append((asked_s, whole * PICO + part))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def test_no_more_than_fit_are_let_in(rig: Rig, prompt_tokens: int) -> None:
    """Billed exactly our estimate, without retries: 21 of 200 reach the provider, none is lost."""
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": CAP}
    each = prompt_tokens * INPUT_PICO + CAP * OUTPUT_PICO
    application_id, target = rig.tenant(team=dollars(ROOM * each))

    seen = asyncio.run(burst(target, usage, AT_ONCE))

    rig.quiet()
    figures = audit(rig, application_id, seen, entries := rig.standin.ledger())
    print(figures)
    assert 1 <= len(entries) <= ROOM + 1
    assert figures.rows == {"ok": len(entries), "blocked": AT_ONCE - len(entries)}
    assert figures.cost_pico == len(entries) * each


def test_who_is_refused_by_holds_alone_gets_in_later(rig: Rig, prompt_tokens: int) -> None:
    """Billed half our estimate, with the SDK's own retries: more than 21 reach the provider.

    Until more than max is spent, every refusal says that trying again may help, and when.
    """
    usage = {"prompt_tokens": prompt_tokens // 2, "completion_tokens": CAP // 2}
    each = prompt_tokens * INPUT_PICO + CAP * OUTPUT_PICO
    application_id, target = rig.tenant(team=dollars(ROOM * each))
    answers: list[tuple[float, Any]] = []

    with Sampler(rig, application_id, "team") as sampler:
        outcomes = asyncio.run(retrying(target, usage, answers))

    rig.quiet()
    entries = rig.standin.ledger()
    refusals = [(at, it.headers) for at, it in answers if it.status_code == 400]
    final = [at for at, its in refusals if its["x-should-retry"] == "false"]
    room_s = max(at for at, spent in sampler.samples if spent <= ROOM * each)
    print(f"{len(entries)} of {len(outcomes)} reached it, {len(refusals)} refusals,", end=" ")
    print(f"{len(final)} of them final")
    assert len(entries) > ROOM + 1
    assert sum(not isinstance(it, APIStatusError) for it in outcomes) == len(entries)
    assert all(at > room_s for at in final), "final, though no more than max was spent"
    waits = [int(its["retry-after"]) for _, its in refusals if its["x-should-retry"] == "true"]
    assert waits
    assert all(1 <= seconds <= 20 for seconds in waits)
    assert rig.spent(application_id, "team") == sum(it.cost_pico or 0 for it in entries)
    records = rig.query("SELECT status FROM usage WHERE application_id = $1", application_id)
    assert Counter(it["status"] for it in records) == {
        "ok": len(entries),
        "blocked": len(refusals),
    }


async def retrying(
    target: Target, usage: dict[str, int], answers: list[tuple[float, Any]]
) -> list[Any]:
    """All calls at once, by OpenAI's own client; every answer is noted, retried or not."""

    async def note(response: Any) -> None:
        answers.append((time.monotonic(), response))

    http = DefaultAsyncHttpxClient(timeout=60, event_hooks={"response": [note]})
    headers = {
        "xProxy-Limit-IDs": "team",
        "x-standin": json.dumps({"usage": usage, "delay_ms": 500}),
    }
    base_url = target.url + OPENAI
    async with AsyncOpenAI(
        api_key=target.key, base_url=base_url, max_retries=5, http_client=http
    ) as client:
        return await asyncio.gather(
            *(
                client.chat.completions.create(**said(n), extra_headers=headers)
                for n in range(AT_ONCE)
            ),
            return_exceptions=True,
        )


def test_one_after_the_other_it_is_pay_is(rig: Rig, prompt_tokens: int) -> None:
    """The call that crosses max passes; from then on each is refused, for good."""
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": CAP}
    each = prompt_tokens * INPUT_PICO + CAP * OUTPUT_PICO
    application_id, target = rig.tenant(team=dollars(5 * each // 2))

    seen = [asyncio.run(burst(target, usage, 1))[0] for _ in range(5)]

    states = [(it.result or {})["limits"]["team"]["state"] for it in seen]
    assert states == ["ok", "ok", "overrun", "blocked", "blocked"]
    assert [it.status for it in seen] == [200, 200, 200, 400, 400]
    assert [it.headers.get("x-should-retry") for it in seen[3:]] == ["false", "false"]
    rig.quiet()
    assert rig.spent(application_id, "team") == 3 * each


def dollars(pico: int) -> dict[str, Any]:
    """A blocking limit of so many pico-dollars."""
    return {"max": float(Decimal(pico) / PICO), "limit_type": "block"}
