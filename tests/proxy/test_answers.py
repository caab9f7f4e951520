"""What the provider answers, what the client gets of it, what the row says: every way it ends."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import Any

import httpx
import pytest
from redis import Redis

from metering.errors import StoreAway
from metering.upstream import unreachable
from tests.proxy.rig import (
    ASK,
    CHAT,
    COST_PICO,
    DONE,
    JSON_BYTES_MAX,
    MESSAGES,
    STREAM,
    STREAMED,
    USAGE_CHUNK,
    Client,
    Pieces,
    Rig,
    answer,
    chunk,
    completion,
    streamed,
    until,
)

LARGE = completion(padding="x" * 2 * JSON_BYTES_MAX)
ASK_TOKENS = 1
"""How many tokens we count in the prompt of ASK."""
RESET = unreachable(sent=True)
"""What the engine raises where a provider breaks off."""


def packed(data: bytes, encoding: str = "gzip") -> bytes:
    """Compressed."""
    return gzip.compress(data) if encoding == "gzip" else zlib.compress(data)


async def settled(rig: Rig, client: Client) -> None:
    """The call was charged what USAGE costs, exactly."""
    row = await rig.row(client)
    assert (row.status, row.estimated, row.cost_pico) == ("ok", False, COST_PICO)
    assert row.provider_id == "chatcmpl-1"
    assert rig.ledger.live == 0


async def test_json(rig: Rig) -> None:
    """The body is the provider's, our member last; headers say what it cost."""
    client = await rig.post(answer(completion()))

    result = client.json["xproxy_result"]
    assert client.status == 200
    assert client.complete
    assert client.body.startswith(completion()[:-1] + b',"xproxy_result":{')
    assert result["cost"]["total"]["base"] == COST_PICO / 10**12
    assert client.headers["xproxy-cost"] == client.headers["x-litellm-response-cost"] == "0.0001425"
    assert client.headers["x-litellm-call-id"] == client.request_id == result["request_id"]
    assert client.headers["content-length"] == str(len(client.body))
    await settled(rig, client)


@pytest.mark.parametrize("status", [200, 201, 203])
async def test_every_2xx_is_an_answer(rig: Rig, status: int) -> None:
    """The row keeps the provider's own status."""
    client = await rig.post(answer(completion(), status))

    assert client.status == status
    assert (await rig.row(client)).http_status == status


async def test_stream(rig: Rig) -> None:
    """Usage is asked for upstream; its chunk stays here; the last chunk with choices has ours."""
    client = await rig.post(streamed(*STREAM), STREAMED)

    sent = json.loads(rig.requests[0].content)
    events = client.body.split(b"\n\n")
    assert sent["stream_options"] == {"include_usage": True}
    assert client.complete
    assert [event + b"\n\n" for event in events[:2]] == list(STREAM[:2])
    assert json.loads(events[2][6:])["xproxy_result"]["cost"]["total"]["base"] == COST_PICO / 10**12
    assert events[3:] == [b"data: [DONE]", b""]
    await settled(rig, client)


# Off


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_off_leaves_json_untouched(rig: Rig, encoding: str) -> None:
    """`xProxy-Result: off`: every byte and its description are the provider's, and it is billed."""
    body = completion() if encoding == "identity" else packed(completion())
    client = await rig.post(
        answer(body, content_encoding=encoding, etag='"1"'), xProxy_Result="off"
    )

    assert client.body == body
    assert (client.headers["content-encoding"], client.headers["etag"]) == (encoding, '"1"')
    assert client.headers["xproxy-cost"] == "0.0001425"
    await settled(rig, client)


async def test_off_leaves_streams_untouched(rig: Rig) -> None:
    """But for the usage chunk of a client that did not ask for one."""
    client = await rig.post(streamed(*STREAM), STREAMED, xProxy_Result="off")

    assert client.body == b"".join(it for it in STREAM if it != USAGE_CHUNK)
    await settled(rig, client)


async def test_off_leaves_errors_untouched(rig: Rig) -> None:
    """The provider's error comes alone."""
    client = await rig.post(answer(b'{"error":{}}', 429, retry_after="7"), xProxy_Result="off")

    assert (client.status, client.body) == (429, b'{"error":{}}')
    assert client.headers["retry-after"] == "7"


# Large


async def test_large_json_streams_through(rig: Rig) -> None:
    """More than is buffered goes out as it comes, unchanged; its usage is read all the same."""
    pieces = [LARGE[at : at + 500] for at in range(0, len(LARGE), 500)]
    more = asyncio.Event()
    body = Pieces(*pieces[:-1], more, pieces[-1])
    rig.answer = answer(body)
    client = Client()
    serving = asyncio.create_task(rig.call(client))
    await until(lambda: len(client.body) > JSON_BYTES_MAX)
    more.set()
    await serving

    assert client.body == LARGE
    assert client.complete
    assert "xproxy-cost" not in client.headers
    assert body.closed
    await settled(rig, client)


async def test_large_compressed_json(rig: Rig) -> None:
    """The same for one that came compressed, although identity was asked for."""
    noise = "".join(f"{n * 7919 % 9973:x}" for n in range(2_700))
    body = packed(completion(padding=noise))
    assert len(body) > JSON_BYTES_MAX
    client = await rig.post(answer(body, content_encoding="gzip"))

    assert client.body == body
    assert client.headers["content-encoding"] == "gzip"
    await settled(rig, client)


async def test_large_json_cut(rig: Rig) -> None:
    """The client sees the cut; what it cost nobody knows."""
    client = await rig.post(answer(Pieces(LARGE[:-50], RESET)))

    assert (client.body, client.complete) == (LARGE[:-50], False)
    row = await rig.row(client)
    assert (row.status, row.cost_pico) == ("unresolved", ASK_TOKENS * 2_500_000)


# Compressed


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_compressed_json_is_decoded_and_spliced(rig: Rig, encoding: str) -> None:
    """A provider that compresses unasked gets the same treatment; the client reads plain JSON."""
    client = await rig.post(answer(packed(completion(), encoding), content_encoding=encoding))

    assert client.json["xproxy_result"]["cost"]["total"]["base"] == COST_PICO / 10**12
    assert "content-encoding" not in client.headers
    await settled(rig, client)


@pytest.mark.parametrize("step", [1, 7, 10_000])
async def test_compressed_streams_are_decoded(rig: Rig, step: int) -> None:
    """Cut anywhere, and wherever a compressor flushes."""
    whole = packed(b"".join(STREAM))
    pieces = [whole[at : at + step] for at in range(0, len(whole), step)]
    plain = await rig.post(streamed(*STREAM), STREAMED, xProxy_Result="off")
    client = await rig.post(
        streamed(*pieces, content_encoding="gzip"), STREAMED, xProxy_Result="off"
    )

    assert client.body == plain.body
    await settled(rig, client)


async def test_a_compressed_stream_loses_nothing(rig: Rig) -> None:
    """However much one compressed piece holds."""
    events = [chunk("x" * 1_000) for _ in range(40)]
    whole = b"".join((*events, *STREAM))
    client = await rig.post(
        streamed(packed(whole), content_encoding="gzip"), STREAMED, xProxy_Result="off"
    )

    assert client.body == whole.replace(USAGE_CHUNK, b"")
    await settled(rig, client)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
async def test_a_stream_that_cannot_be_decoded_is_relayed_as_it_is(rig: Rig, encoding: str) -> None:
    """Its client may know how; what it cost is estimated."""
    client = await rig.post(streamed(b"\x8b\xff", b"\n\n\x00", content_encoding=encoding), STREAMED)

    row = await rig.row(client)
    assert (client.body, client.complete) == (b"\x8b\xff\n\n\x00", True)
    assert client.headers["content-encoding"] == encoding
    assert (row.status, row.estimated, row.cost_pico) == ("ok", True, ASK_TOKENS * 2_500_000)


async def test_a_bomb_is_no_answer(rig: Rig) -> None:
    """What inflates beyond what is buffered is not inflated further."""
    bomb = packed(b"{" + b" " * (100 * JSON_BYTES_MAX) + b"}")
    client = await rig.post(answer(bomb, content_encoding="gzip"))

    assert (client.status, client.headers["x-should-retry"]) == (502, "false")
    assert client.json["xproxy_error"]["code"] == "provider_error"
    assert (await rig.row(client)).status == "unresolved"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", {}),
        (b"<html>", {}),
        (b"[1]", {}),
        (b'"text"', {}),
        (completion()[:-1], {}),
        (completion(), {"content_encoding": "gzip"}),
        (completion(), {"content_encoding": "br"}),
        (packed(completion())[:-20], {"content_encoding": "gzip"}),
    ],
)
async def test_garbage(rig: Rig, body: bytes, headers: dict[str, Any]) -> None:
    """A 200 that is no answer is a 502 that must not be retried blindly: it may have been billed.

    Nobody knows what it cost; the prompt was taken.
    """
    client = await rig.post(answer(body, **headers))

    assert (client.status, client.headers["x-should-retry"]) == (502, "false")
    row = await rig.row(client)
    assert (row.status, row.estimated, row.error_code) == ("unresolved", True, "provider_error")
    assert row.cost_pico == ASK_TOKENS * 2_500_000
    assert rig.ledger.live == 0


# Cut, reset, refused


async def test_cut_json(rig: Rig) -> None:
    """Half an answer may have been billed whole: 502, not to be retried, and a row that says so.

    What is certain is charged: the prompt was taken.
    """
    client = await rig.post(answer(Pieces(completion()[:40], RESET)))

    row = await rig.row(client)
    assert (client.status, client.headers["x-should-retry"]) == (502, "false")
    assert (row.status, row.estimated, row.http_status) == ("unresolved", True, 502)
    assert row.cost_pico == row.input_pico == ASK_TOKENS * 2_500_000
    assert rig.ledger.live == 0


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (httpx.ReadError(""), 502),
        (httpx.ReadTimeout(""), 504),
        (httpx.RemoteProtocolError(""), 502),
    ],
)
async def test_no_answer(rig: Rig, fault: BaseException, status: int) -> None:
    """A provider that breaks off or falls silent before its answer: nothing of it is certain."""
    client = await rig.post(fault)

    assert (client.status, client.headers["x-should-retry"]) == (status, "false")
    assert client.json["xproxy_error"]["code"] == "provider_error"
    row = await rig.row(client)
    assert (row.status, row.cost_pico) == ("unresolved", 0)
    assert rig.ledger.live == 0


@pytest.mark.parametrize(
    ("pieces", "output_tokens", "estimated"),
    [
        ([chunk("Hello, "), chunk("world")], 3, True),
        ([chunk("Hello, "), chunk("world"), chunk()], 3, True),
        ([chunk("Hello"), chunk(), USAGE_CHUNK], 12, False),
        ([chunk("Hello, world")[:-1]], 3, True),
    ],
)
async def test_cut_streams(
    rig: Rig, pieces: list[bytes], output_tokens: int, *, estimated: bool
) -> None:
    """The client gets what came and sees the cut; it is billed what was seen, or what was said."""
    client = await rig.post(streamed(*pieces, RESET), STREAMED, xProxy_Result="off")

    row = await rig.row(client)
    assert client.body == b"".join(it for it in pieces if it != USAGE_CHUNK)
    assert not client.complete
    assert (row.status, row.estimated) == ("ok", estimated)
    assert row.units["output_text"] == output_tokens
    assert row.cost_pico > 0
    assert rig.ledger.live == 0


async def test_a_cut_after_the_end_is_no_loss(rig: Rig) -> None:
    """A connection that breaks once usage is known changes nothing of the bill."""
    client = await rig.post(streamed(*STREAM, RESET), STREAMED)

    assert client.body.endswith(DONE)
    await settled(rig, client)


@pytest.mark.parametrize("end", [b"data: [DONE]", b"data: [DONE]\n", b"data: [DONE]\r\r", b": bye"])
async def test_what_follows_the_usage_needs_no_blank_line(rig: Rig, end: bytes) -> None:
    """Once the usage has come the rest is relayed too, to the last byte."""
    asked = STREAMED | {"stream_options": {"include_usage": True}}
    client = await rig.post(streamed(*STREAM[:-1], end), asked)

    assert client.body.endswith(b"}\n\n" + end)
    await settled(rig, client)


OPENAI_ERROR = b'data: {"error":{"message":"The server had an error.","type":"server_error"}}\n\n'
ANTHROPIC_START = (
    b"event: message_start\n"
    b'data: {"type":"message_start","message":{"id":"msg_1","model":"claude-haiku-4-5-20251001",'
    b'"usage":{"input_tokens":40,"output_tokens":1}}}\n\n'
)
ANTHROPIC_ERROR = (
    b"event: error\n"
    b'data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
)


async def test_an_error_event_in_a_chat_stream(rig: Rig) -> None:
    """It reaches the client as it came; output delivered before it is billed, its text is not."""
    pieces = (chunk("Hello, "), chunk("world"), OPENAI_ERROR)
    client = await rig.post(streamed(*pieces), STREAMED)

    row = await rig.row(client)
    assert client.body == b"".join(pieces)
    assert client.complete
    assert (row.estimated, row.units["output_text"]) == (True, 3)
    assert any("estimated" in it for it in row.warnings)


async def test_an_error_event_in_a_messages_stream(rig: Rig) -> None:
    """Usage that was stated before it is what is billed."""
    body = {"model": "claude-haiku-4-5", "max_tokens": 50, "stream": True, "messages": []}
    client = await rig.post(streamed(ANTHROPIC_START, ANTHROPIC_ERROR), body, MESSAGES)

    row = await rig.row(client)
    assert client.body == ANTHROPIC_START + ANTHROPIC_ERROR
    assert row.units["input_text"] == 40
    assert row.input_pico == 40 * 1_000_000


async def test_output_that_was_not_counted_is_estimated(rig: Rig) -> None:
    """A messages stream that ends as it should, and never said how much it gave, is an estimate."""
    body = {"model": "claude-haiku-4-5", "max_tokens": 50, "stream": True, "messages": []}
    said = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hello, world"}}
    events = (said, {"type": "message_delta", "usage": {}}, {"type": "message_stop"})
    pieces = [f"event: {it['type']}\ndata: {json.dumps(it)}\n\n".encode() for it in events]
    client = await rig.post(streamed(ANTHROPIC_START, *pieces), body, MESSAGES)

    row = await rig.row(client)
    assert (row.estimated, row.units["input_text"], row.units["output_text"]) == (True, 40, 3)


# Provider errors


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503, 529])
async def test_provider_errors(rig: Rig, status: int) -> None:
    """The provider's status and members, then ours; the call is released, and costs nothing."""
    theirs = {"error": {"message": "no", "type": "t", "code": None}, "statusCode": "theirs"}
    client = await rig.post(answer(json.dumps(theirs).encode(), status, retry_after="7"))

    row = await rig.row(client)
    assert client.status == status
    assert client.headers["retry-after"] == "7"
    assert list(client.json) == ["error", "statusCode", "message", "xproxy_error", "xproxy_result"]
    assert client.json | theirs == client.json
    assert (row.status, row.http_status, row.cost_pico) == ("failed", status, 0)


async def test_a_stored_keys_error_is_scrubbed(rig: Rig) -> None:
    """What a provider repeats of the key that was stored here does not reach the caller."""
    theirs = b'{"error":{"message":"Incorrect API key provided: sk-stored-openai"}}'
    scrubbed = await rig.post(answer(theirs, 401))
    brought = await rig.post(answer(theirs, 401), Authorization="Bearer sk-of-the-caller-1")

    assert b"sk-stored" not in scrubbed.body
    assert b"sk-stored" in brought.body


async def test_an_error_that_is_cut_is_an_error(rig: Rig) -> None:
    """Its status is known, so that it cost nothing is known too."""
    client = await rig.post(answer(Pieces(b'{"error"', RESET), 429, retry_after="7"))

    assert (client.status, client.headers["retry-after"]) == (429, "7")
    assert client.json["xproxy_error"]["code"] == "provider_error"
    assert (await rig.row(client)).status == "failed"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_not_followed(rig: Rig, status: int) -> None:
    """A 3xx is the answer: no second request, no credential to anywhere else."""
    client = await rig.post(answer(b"", status, location="https://elsewhere.test/"))

    assert (client.status, client.headers["location"]) == (status, "https://elsewhere.test/")
    assert len(rig.requests) == 1
    assert (await rig.row(client)).cost_pico == 0


# Stores


@pytest.mark.parametrize("body", [None, STREAMED])
async def test_a_slow_settle_does_not_hold_the_answer(
    rig: Rig, redis_url: str, body: dict[str, Any] | None
) -> None:
    """Past its deadline the answer goes out with its cost and a warning; the rest is journaled."""
    with Redis.from_url(redis_url) as redis:

        async def paused(_: httpx.Request) -> httpx.Response:
            redis.client_pause(60_000, all=False)  # writes wait; the unpausing does not
            return answer(completion()) if body is None else streamed(*STREAM)

        client = await rig.post(paused, body or ASK)
        redis.client_unpause()
    text = client.body if body is None else client.body.split(b"\n\n")[2][6:]
    result = json.loads(text)["xproxy_result"]

    assert client.complete
    assert result["cost"]["total"]["base"] == COST_PICO / 10**12
    assert result["warnings"] == ["limit states are not known yet"]
    assert "limits" not in result
    async with asyncio.timeout(5):
        while not await rig.ledger.replay():
            await asyncio.sleep(0.05)
    await settled(rig, client)


async def test_a_fault_of_ours_lets_the_hold_go(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug after the provider was called: 503, not to be retried, and the hold is the reaper's."""

    def bug(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("metering.meter.meter.priced_row", bug)
    client = await rig.post(answer(completion()))

    assert (client.status, client.headers["x-should-retry"]) == (503, "false")
    assert rig.ledger.live == 0


async def test_redis_away_at_reserve_with_a_binding_limit(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was sent: 503, to be retried, and the provider knows nothing of it."""

    async def away(*_: object, **__: object) -> None:
        raise StoreAway

    monkeypatch.setattr(rig.ledger, "reserve", away)
    client = await rig.post(answer(completion()))

    assert (client.status, client.headers["retry-after"]) == (503, "1")
    assert client.headers.get("x-should-retry") != "false"
    assert not rig.requests


async def test_settling_keeps_the_order_of_bytes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes while a stream is being settled waits behind what carries the result."""
    settle, between = rig.meter.settle, asyncio.Event()

    async def slow(*values: Any) -> Any:
        await asyncio.wait_for(between.wait(), 5)
        return await settle(*values)

    monkeypatch.setattr(rig.meter, "settle", slow)
    body = Pieces(*STREAM[:-1], between, DONE, b": bye\n\n")
    rig.answer = answer(body, content_type="text/event-stream")
    client = Client(CHAT, STREAMED)
    serving = asyncio.create_task(rig.call(client))
    await until(lambda: body.given == 4)
    between.set()
    await serving

    assert client.body.endswith(b"}\n\n" + DONE + b": bye\n\n")
    await settled(rig, client)


async def test_a_fee_for_the_call_itself(rig: Rig) -> None:
    """Where a model has one, it is charged once a call, beside the tokens."""
    as_sonar = {"xproxy_priceas_category": "perplexity", "xproxy_priceas_resource": "sonar"}
    client = await rig.post(answer(completion()), **as_sonar)
    row = await rig.row(client)

    assert row.lines == {"input_text": 9_000_000, "output_text": 12_000_000, "requests": 12 * 10**9}
    assert row.cost_pico == 12_021_000_000
    assert row.units["requests"] == 1


async def test_names_that_are_none_are_not_kept(rig: Rig) -> None:
    """Whoever is called may say anything: rows and indexes hold names of a bounded length."""
    long = completion(id="chatcmpl-" + "x" * 300, model="m" * 300, service_tier="t\x07")
    row = await rig.row(await rig.post(answer(long)))

    assert (row.provider_id, row.model, row.service_tier) == (None, "gpt-4o", None)
    assert row.cost_pico == COST_PICO
