"""Calls with an `Idempotency-Key`: made once, charged once, told again to whoever repeats them."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from metering.replays import ANSWER_BYTES_MAX
from metering.store import applications
from metering.upstream import unreachable
from tests.builders import APPLICATION
from tests.proxy.rig import (
    ASK,
    CHAT,
    COST_PICO,
    STREAM,
    Answer,
    Client,
    Rig,
    answer,
    completion,
    streamed,
    until,
)


@pytest.fixture
async def key(rig: Rig) -> str:
    """A key of an application that has opted in."""
    await applications.update(rig.store, APPLICATION, idempotency=True)
    return await rig.key("price_as")


def asks(key: str, once: str = "first", body: Any = ASK, path: str = CHAT) -> Client:
    """A call with an idempotency key."""
    sent = [("xproxy-api-key", key), ("idempotency-key", once)]
    return Client(path, body, headers=sent)


async def ask(rig: Rig, key: str, given: Answer, once: str = "first", **request: Any) -> Client:
    """The same, answered so if it comes to the provider."""
    rig.answer = given
    return await rig.call(asks(key, once, **request))


def code(client: Client) -> str:
    """The code of a refusal."""
    found: str = client.json["xproxy_error"]["code"]
    return found


async def test_a_repetition_gets_the_answer_of_the_first(rig: Rig, key: str) -> None:
    """Status, body and headers, its request id among them; the provider is not asked again, and
    nothing more is charged."""
    first = await ask(rig, key, answer(completion()))
    again = await ask(rig, key, answer(completion(id="chatcmpl-2")))
    assert (again.status, again.body) == (200, first.body)
    assert again.headers == first.headers | {"xproxy-idempotent-replayed": "true"}
    assert "xproxy-idempotent-replayed" not in first.headers
    assert len(rig.requests) == 1
    assert [row.cost_pico for row in await rig.rows()] == [COST_PICO]
    other = await ask(rig, key, answer(completion(id="chatcmpl-2")), "second")
    assert b"chatcmpl-2" in other.body


async def test_a_stream_is_told_again(rig: Rig, key: str) -> None:
    """Every byte of it, in the same content type."""
    body = ASK | {"stream": True}
    first = await ask(rig, key, streamed(*STREAM), body=body)
    again = await ask(rig, key, streamed(*STREAM), body=body)
    assert first.complete
    assert again.body == first.body
    assert again.headers["content-type"] == first.headers["content-type"]
    assert len(rig.requests) == 1


async def test_only_who_opted_in(rig: Rig) -> None:
    """Else the header is the provider's business alone."""
    await applications.update(rig.store, APPLICATION, idempotency=False)
    key = await rig.key()
    for _ in range(2):
        assert (await ask(rig, key, answer(completion()))).status == 200
    assert len(rig.requests) == 2
    assert {it.headers["idempotency-key"] for it in rig.requests} == {"first"}


async def test_while_the_first_is_under_way(rig: Rig, key: str) -> None:
    """409, to be tried again; then there is the answer. Of many at once one is made."""
    release = asyncio.Event()

    async def slow(_: httpx.Request) -> httpx.Response:
        await release.wait()
        return answer(completion())

    rig.answer = slow
    clients = [asks(key) for _ in range(20)]
    serving = [asyncio.create_task(rig.serve(it)) for it in clients]
    await until(lambda: sum(it.status == 409 for it in clients) == 19)
    refused = next(it for it in clients if it.status == 409)
    assert code(refused) == "idempotency_in_flight"
    assert refused.headers["x-should-retry"] == "true"
    assert refused.headers["retry-after"] == "1"
    release.set()
    await asyncio.gather(*serving)
    assert (await ask(rig, key, answer(completion()))).status == 200
    assert len(rig.requests) == 1


async def test_another_request_with_the_same_key(rig: Rig, key: str) -> None:
    """Another body or path is refused by name, whatever became of the first."""
    await ask(rig, key, answer(completion()))
    others: list[dict[str, Any]] = [
        {"body": ASK | {"n": 2}},
        {"path": CHAT + "?a=b"},
        {
            "path": CHAT.replace("chat/completions", "completions"),
            "body": {"model": "gpt-3.5-turbo-instruct"},
        },
    ]
    for other in others:
        refused = await ask(rig, key, answer(completion()), **other)
        assert (refused.status, code(refused)) == (400, "idempotency_key_reused")
    assert len(rig.requests) == 1


@pytest.mark.parametrize(
    "failing",
    [answer(b'{"error": {}}', 500), answer(b'{"error": {}}', 400), unreachable(sent=False)],
    ids=["500", "400", "unreachable"],
)
async def test_what_used_nothing_may_be_made_again(rig: Rig, key: str, failing: Answer) -> None:
    """A call that failed and was not charged gives its key back."""
    first = await ask(rig, key, failing)
    assert (first.status or 0) >= 400
    again = await ask(rig, key, answer(completion()))
    assert again.status == 200
    assert [row.cost_pico for row in await rig.rows()] == [0, COST_PICO]


@pytest.mark.parametrize(
    "failing",
    [
        unreachable(sent=True),
        answer(b"{", 200),
        answer(completion(padding="x" * ANSWER_BYTES_MAX)),
    ],
    ids=["broken off", "garbage", "too large"],
)
async def test_what_may_have_been_charged_is_not_made_again(
    rig: Rig, key: str, failing: Answer
) -> None:
    """Nobody knows, or the answer is too large to be kept: another key is the caller's decision."""
    await ask(rig, key, failing)
    again = await ask(rig, key, answer(completion()))
    assert (again.status, code(again)) == (409, "idempotency_answer_lost")
    assert again.headers["x-should-retry"] == "false"
    assert len(rig.requests) == 1


async def test_the_client_that_leaves_comes_back_for_the_answer(rig: Rig, key: str) -> None:
    """Its call is seen through to the end, and the whole answer is there then."""
    more = asyncio.Event()
    rig.answer = streamed(*STREAM[:2], more, *STREAM[2:])
    body = ASK | {"stream": True}
    left = asks(key, body=body)
    serving = asyncio.create_task(rig.serve(left))
    await until(lambda: b"Hel" in left.received)
    left.leave()
    more.set()
    await serving
    again = await ask(rig, key, answer(completion()), body=body)
    assert again.status == 200
    assert again.body.endswith(b"data: [DONE]\n\n")
    assert b"xproxy_result" in again.body
    assert len(rig.requests) == 1
    assert [row.cost_pico for row in await rig.rows()] == [COST_PICO]


@pytest.mark.parametrize("once", ["", "a b", "x" * 256, "k\xe9y"])
async def test_keys_that_are_none(rig: Rig, key: str, once: str) -> None:
    """Refused by the header's name; the provider is not asked."""
    refused = await ask(rig, key, answer(completion()), once)
    assert refused.status == 400
    assert "Idempotency-Key" in refused.json["message"]
    assert not rig.requests


async def test_answers_are_sealed(rig: Rig, key: str) -> None:
    """Redis holds neither answer nor key in plain text; what was moved to another key, or altered,
    is no answer."""
    await ask(rig, key, answer(completion(secret="canary-in-an-answer")), "canary-in-a-key")
    await ask(rig, key, answer(completion()), "other")
    redis = rig.redis
    names = [it for it in await redis.call("KEYS", "*") if b":i:" in it]
    kept = {name: await redis.call("HGETALL", name) for name in names}
    assert len(kept) == 2
    assert "canary" not in str(kept)
    one: bytes = await redis.call("HGET", names[0], "answer")
    other: bytes = await redis.call("HGET", names[1], "answer")
    await redis.call("HSET", names[0], "answer", other)
    await redis.call("HSET", names[1], "answer", one[:-1] + bytes([one[-1] ^ 1]))
    for once in ("canary-in-a-key", "other"):
        assert (await ask(rig, key, answer(completion()), once)).status == 503
    assert len(rig.requests) == 2
    assert 0 < await redis.call("PTTL", names[0]) <= 24 * 3_600_000


async def test_applications_have_keys_of_their_own(rig: Rig, key: str) -> None:
    """The same words of two applications are two keys; free calls need none."""
    await ask(rig, key, answer(completion()))
    models = CHAT.replace("chat/completions", "models")
    for _ in range(2):
        rig.answer = answer(b"{}")
        sent = [("xproxy-api-key", key), ("idempotency-key", "free")]
        assert (await rig.call(Client(models, b"", method="GET", headers=sent))).status == 200
    assert len(rig.requests) == 3
