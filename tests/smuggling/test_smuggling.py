"""What goes through us reaches a provider as single well-formed requests, each one we were sent."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from redis import Redis

from metering.cli import runfile
from metering.redis import keys
from tests.smuggling.client import Heard, read, say, upstream
from tests.smuggling.corpus import Payload, Wire, corpus
from tests.smuggling.mutate import mutate, pieces
from tests.smuggling.recorder import Recorder, seen
from tests.smuggling.strict import Request
from tests.standin.service import Service

NAMES = [payload.name for payload in corpus(b"key")]
AT_ONCE = 12
MUTATIONS = {"ci": 1_000, "full": 50_000, "soak": 200_000}
Forwarded = tuple[bytes, bytes, bytes]


@dataclass(frozen=True)
class Outcome:
    """What became of a payload that was sent in these pieces."""

    pieces: Sequence[bytes]
    heard: Heard

    @property
    def sent(self) -> bytes:
        """All of it."""
        return b"".join(self.pieces)


def holds(data_dir: Path) -> int:
    """How many holds there are."""
    running = runfile.read(data_dir)
    assert running is not None, "the service does not run"
    with Redis.from_url(running.redis_url) as redis:
        return sum(redis.zcard(name) for name in keys.holds())


async def deliver(service: Service, sent: Sequence[Sequence[bytes]]) -> list[Outcome]:
    """Send payloads, several at once; returns when the service has nothing more to do."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(pieces: Sequence[bytes]) -> Outcome:
        async with room:
            return Outcome(pieces, await say(service.port, pieces))

    outcomes = await asyncio.gather(*(one(it) for it in sent))
    deadline = time.monotonic() + 10
    await asyncio.sleep(0.2)
    while holds(service.data_dir):
        assert time.monotonic() < deadline, "holds are left"
        await asyncio.sleep(0.1)
    return outcomes


def accepted(outcome: Outcome) -> int:
    """How many answers a provider gave."""
    return sum(answer.seen is not None for answer in outcome.heard.answers)


def check(outcome: Outcome) -> None:
    """No answer to what was no request, each provider's answer in its place, and an end in time."""
    due = read(outcome.sent)
    heard = outcome.heard
    for number, answer in enumerate(heard.answers):
        request = due.requests[number] if number < len(due.requests) else None
        if request is None and due.begun is not None:
            assert answer.seen is None, "half a request went on"
        elif request is None:
            assert 400 <= answer.status < 500, f"{answer.status} for what is no request"
        elif answer.seen is not None:
            target = upstream(request)
            assert target is not None
            assert answer.seen == (request.method + b" " + target).decode("latin-1")
    assert len(heard.answers) <= len(due.requests) + 1
    if due.problem is not None or due.closed:
        assert heard.closed, f"still open after {due.problem or 'the last request'}"
    elif not heard.closed:
        assert len(heard.answers) >= len(due.requests), "a request was not answered"


@pytest.fixture(scope="session")
async def outcomes(
    service: Service, recorder: Recorder, key: bytes, size: Literal["ci", "full", "soak"]
) -> dict[str, list[tuple[Outcome, list[Request]]]]:
    """What became of each payload: sent whole, with its first head alone, and byte by byte."""
    names: list[str] = []
    sent: list[list[bytes]] = []
    for payload in corpus(key):
        for cut in (_whole, _halves) if size == "ci" else (_whole, _halves, _bytes):
            names.append(payload.name)
            sent.append(cut(payload.tagged(len(sent))))
    before = len(recorder.requests)
    delivered = await deliver(service, sent)
    arrived: dict[int, list[Request]] = {}
    for request in recorder.requests[before:]:
        [number] = {int(tag) for tag in re.findall(rb"T(\d{7})", request.raw)}
        arrived.setdefault(number, []).append(request)
    found: dict[str, list[tuple[Outcome, list[Request]]]] = {}
    for number, (name, outcome) in enumerate(zip(names, delivered, strict=True)):
        found.setdefault(name, []).append((outcome, arrived.pop(number, [])))
    assert not arrived
    return found


def _whole(sent: bytes) -> list[bytes]:
    return [sent]


def _halves(sent: bytes) -> list[bytes]:
    head, end, rest = sent.partition(b"\r\n\r\n")
    return [head + end, rest] if rest else [head + end]


def _bytes(sent: bytes) -> list[bytes]:
    return [bytes([it]) for it in sent[:1_000]] + ([sent[1_000:]] if sent[1_000:] else [])


@pytest.mark.parametrize("name", NAMES)
async def test_classics(
    outcomes: dict[str, list[tuple[Outcome, list[Request]]]], key: bytes, name: str
) -> None:
    """What is no single request is refused and ends its connection; a body stays a body."""
    payload = next(it for it in corpus(key) if it.name == name)
    for outcome, arrived in outcomes[name]:
        due = [it for it in read(outcome.sent).requests if upstream(it)]
        assert len(arrived) == payload.forwarded <= len(due), outcome
        for request, meant in zip(arrived, due, strict=False):
            assert (request.method, request.target) == (meant.method, upstream(meant))
            assert request.body == meant.body
            assert not request.values(b"x-trailer")
        check(outcome)
        assert outcome.heard.closed == payload.closes, outcome
        assert accepted(outcome) <= payload.forwarded
        statuses = [it.status for it in outcome.heard.answers]
        if not payload.forwarded:
            assert all(400 <= it < 500 for it in statuses), statuses


def test_nothing_odd_went_on(
    outcomes: dict[str, list[tuple[Outcome, list[Request]]]], recorder: Recorder
) -> None:
    """No connection to the provider carried anything but whole requests that a strict one takes."""
    assert not recorder.problems
    assert not recorder.leftovers()


def test_the_classics_are_many() -> None:
    """Names are unique, and at least 57 payloads must be refused."""
    assert len(set(NAMES)) == len(NAMES)
    assert sum(it.closes and not it.forwarded for it in corpus(b"key")) >= 57


@pytest.mark.timeout(3600)
async def test_mutations(
    service: Service,
    recorder: Recorder,
    key: bytes,
    seed: int,
    size: Literal["ci", "full", "soak"],
) -> None:
    """Whatever is made of the classics: what arrives is well-formed, meant, and arrives once."""
    count = MUTATIONS[size]
    payloads = [it for it in corpus(key) if len(it.sent) < 2_000]
    seeds = [[it.sent for it in payloads if bool(it.forwarded) == passes] for passes in (0, 1)]
    sent = []
    for number in range(count):
        rng = random.Random(f"{seed}:{number}")
        sent.append(pieces(Payload("", mutate(rng.choice(seeds), rng)).tagged(number), rng))
    before = len(recorder.requests)
    delivered = await deliver(service, sent)
    arrived = Counter(map(_forwarded, recorder.requests[before:]))
    for number, outcome in enumerate(delivered):
        try:
            check(outcome)
        except AssertionError as why:
            pytest.fail(f"{number}: {why}\nsent {outcome.pieces}\nheard {outcome.heard.raw!r}")
    meant = Counter(it for outcome in delivered for it in _meant(outcome.sent))
    assert not arrived - meant
    assert not recorder.problems
    assert not recorder.leftovers()
    refused = sum(any(it.status == 400 for it in outcome.heard.answers) for outcome in delivered)
    print(f"{count} payloads: {arrived.total()} calls of {meant.total()}, {refused} refused")
    assert arrived.total() > count / 10
    assert refused > count / 10


def _forwarded(request: Request) -> Forwarded:
    return request.method, request.target, _plain(request.body)


def _meant(sent: bytes) -> list[Forwarded]:
    requests = [(it, upstream(it)) for it in read(sent).requests]
    return [(it.method, target, _plain(it.body)) for it, target in requests if target]


def _plain(body: bytes) -> bytes:
    """A body as JSON says it, since members that came twice go on once."""
    try:
        return json.dumps(json.loads(body), sort_keys=True).encode()
    except ValueError:
        return body


async def test_healthy_afterwards(service: Service, recorder: Recorder, key: bytes) -> None:
    """Calls work as before, each gets its own answer, nothing is held, and nothing broke inside."""
    wire = Wire(key)
    before = len(recorder.requests)
    calls = [wire.chat(), wire.get(), wire.sized(wire.hidden)] * 20
    tagged = [Payload("", it).tagged(number) for number, it in enumerate(calls)]
    for outcome in await deliver(service, [[it] for it in tagged]):
        [answer] = outcome.heard.answers
        assert answer.status == 200
        [meant] = read(outcome.sent).requests
        assert answer.seen == seen(meant).replace("/api/v1/proxy/openai", "")
    assert len(recorder.requests) - before == len(calls)
    assert not recorder.problems
    assert not recorder.leftovers()
    log = service.log.read_text()
    assert "Traceback" not in log
    assert "_failed" not in log
