"""Where the SDKs find `xproxy_result`: whole answers, streams and their helpers, and by id."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import pytest
from payi import Payi
from payi.lib.helpers import create_headers

from tests.acceptance import clients
from tests.acceptance.tenant import Tenant, new_tenant
from tests.standin.process import Standin

HEADERS = create_headers(limit_ids=["team", "month"], user_id="ann", use_case_name="chat")


@pytest.fixture
def limited(tenant: Tenant) -> Tenant:
    """A tenant with the two limits that HEADERS name."""
    for limit_id in ("team", "month"):
        tenant.limit(limit_id)
    return tenant


def check(result: dict[str, Any], tenant: Tenant, standin: Standin) -> None:
    """A result says what the provider billed; row, limits and result by id say the same."""
    [call] = standin.ledger()
    assert call.cost_pico
    row = tenant.row()
    assert result["request_id"] == row["request_id"]
    assert row["cost_pico"] == str(call.cost_pico)
    cost = result["cost"]
    assert cost["currency"] == "usd"
    billed = float(Decimal(call.cost_pico).scaleb(-12))
    assert cost["total"] == {"base": billed}
    assert cost["input"]["base"] + cost["output"]["base"] == pytest.approx(billed, rel=1e-12)
    assert result["limits"] == {"team": {"state": "ok"}, "month": {"state": "ok"}}
    assert (result["user_id"], result["use_case_name"]) == ("ann", "chat")
    for limit_id in ("team", "month"):
        assert float(tenant.totals(limit_id)["cost"]["total"]["base"]) == billed


def test_a_chat_completion_carries_its_result(limited: Tenant, standin: Standin) -> None:
    """OpenAI's SDK shows it as a member of the answer."""
    with clients.openai_client(limited) as client:
        answer = clients.chat(client, extra_headers=HEADERS)
    assert answer.choices[0].message.content.startswith("A robot")
    check(answer.xproxy_result, limited, standin)


def test_a_message_carries_its_result(limited: Tenant, standin: Standin) -> None:
    """Anthropic's SDK shows it as a member of the answer."""
    with clients.anthropic_client(limited) as client:
        answer = clients.message(client, extra_headers=HEADERS)
    assert answer.content[0].text.startswith("A robot")
    check(answer.xproxy_result, limited, standin)


async def test_the_asynchronous_sdks_see_the_same(limited: Tenant, standin: Standin) -> None:
    """AsyncOpenAI and AsyncAnthropic find it where their synchronous siblings do."""
    async with clients.async_openai_client(limited) as openai:
        chat = await clients.async_chat(openai, extra_headers=HEADERS)
    async with clients.async_anthropic_client(limited) as anthropic:
        message = await clients.async_message(anthropic, extra_headers=HEADERS)
    billed = {call.id: call.cost_pico for call in standin.ledger()}
    for answer in (chat, message):
        total = Decimal(billed[answer.id] or 0).scaleb(-12)
        assert answer.xproxy_result["cost"]["total"]["base"] == float(total) > 0


def test_a_chat_stream_carries_its_result_on_the_last_choices(
    limited: Tenant, standin: Standin
) -> None:
    """A client that asked for no usage gets chunks with choices only, the last one with it."""
    with clients.openai_client(limited) as client:
        chunks = list(clients.chat(client, stream=True, extra_headers=HEADERS))
    assert all(chunk.choices for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)
    assert [i for i, it in enumerate(chunks) if "xproxy_result" in it.model_extra] == [
        len(chunks) - 1
    ]
    assert chunks[-1].choices[0].finish_reason == "stop"
    check(chunks[-1].model_extra["xproxy_result"], limited, standin)


def test_a_chat_stream_with_usage_carries_it_on_the_usage(
    limited: Tenant, standin: Standin
) -> None:
    """A client that asked for the usage chunk finds the result there."""
    options = {"include_usage": True}
    with clients.openai_client(limited) as client:
        stream = clients.chat(client, stream=True, stream_options=options, extra_headers=HEADERS)
        chunks = list(stream)
    *_, last = chunks
    assert (last.choices, last.usage.total_tokens > 0) == ([], True)
    assert all("xproxy_result" not in it.model_extra for it in chunks[:-1])
    check(last.model_extra["xproxy_result"], limited, standin)


@pytest.mark.parametrize("count", [1, 3])
def test_chat_streams_of_several_choices_carry_one_result(
    count: int, limited: Tenant, standin: Standin
) -> None:
    """With n choices the result is on the very last chunk, and nowhere else."""
    with clients.openai_client(limited) as client:
        chunks = list(clients.chat(client, stream=True, n=count, extra_headers=HEADERS))
    assert {it.choices[0].index for it in chunks} == set(range(count))
    assert ["xproxy_result" in it.model_extra for it in chunks].count(True) == 1
    check(chunks[-1].model_extra["xproxy_result"], limited, standin)


def test_the_chat_stream_helper_works(limited: Tenant, standin: Standin) -> None:
    """`client.chat.completions.stream()` accumulates text and the result."""
    messages: list[Any] = [{"role": "user", "content": "Hello."}]
    with (
        clients.openai_client(limited) as client,
        client.chat.completions.stream(
            model=clients.CHAT_MODEL, messages=messages, extra_headers=HEADERS
        ) as stream,
    ):
        results = [
            extra["xproxy_result"]
            for event in stream
            if event.type == "chunk" and "xproxy_result" in (extra := event.chunk.model_extra or {})
        ]
        text = stream.get_final_completion().choices[0].message.content
    assert text
    assert text.startswith("A robot")
    check(results[0], limited, standin)


def test_a_message_stream_carries_its_result_on_the_message_delta(
    limited: Tenant, standin: Standin
) -> None:
    """`message_delta` has it, the event that has the usage."""
    with clients.anthropic_client(limited) as client:
        events = list(clients.message(client, stream=True, extra_headers=HEADERS))
    carriers = [it for it in events if "xproxy_result" in (it.model_extra or {})]
    assert [it.type for it in carriers] == ["message_delta"]
    assert events[-1].type == "message_stop"
    check(carriers[0].model_extra["xproxy_result"], limited, standin)


def test_the_message_stream_helper_works(limited: Tenant, standin: Standin) -> None:
    """`client.messages.stream()` gives text, the final message and the event with the result."""
    with (
        clients.anthropic_client(limited) as client,
        client.messages.stream(
            model=clients.MESSAGES_MODEL,
            max_tokens=100,
            messages=[{"role": "user", "content": "Hello."}],
            extra_headers=HEADERS,
        ) as stream,
    ):
        deltas: list[Any] = [event for event in stream if event.type == "message_delta"]
        final = stream.get_final_message()
    assert final.content[0].type == "text"
    assert final.content[0].text.startswith("A robot")
    assert final.stop_reason == "end_turn"
    check(deltas[0].model_extra["xproxy_result"], limited, standin)


async def test_the_asynchronous_streams_see_the_same(limited: Tenant, standin: Standin) -> None:
    """AsyncOpenAI's loop and AsyncAnthropic's stream helper find the result too."""
    async with clients.async_openai_client(limited) as openai:
        stream = await clients.async_chat(openai, stream=True, extra_headers=HEADERS)
        chunks = [chunk async for chunk in stream]
    async with (
        clients.async_anthropic_client(limited) as anthropic,
        anthropic.messages.stream(
            model=clients.MESSAGES_MODEL,
            max_tokens=100,
            messages=[{"role": "user", "content": "Hello."}],
            extra_headers=HEADERS,
        ) as events,
    ):
        deltas: list[Any] = [event async for event in events if event.type == "message_delta"]
    billed = {
        call.provider: float(Decimal(call.cost_pico or 0).scaleb(-12)) for call in standin.ledger()
    }
    for provider, event in (("openai", chunks[-1]), ("anthropic", deltas[0])):
        assert event.model_extra["xproxy_result"]["cost"]["total"]["base"] == billed[provider] > 0


def test_results_are_there_by_id_at_once(limited: Tenant) -> None:
    """By our id and by the provider's, before the row has landed, also through the payi SDK."""
    with clients.openai_client(limited) as openai, clients.anthropic_client(limited) as anthropic:
        answers = {
            "system.openai": clients.chat(openai, extra_headers=HEADERS),
            "system.anthropic": clients.message(anthropic, extra_headers=HEADERS),
        }
        payi = Payi(api_key=limited.key, base_url=limited.service.url)
        with payi:
            for category, answer in answers.items():
                given = answer.xproxy_result
                by_id = limited.result(given["request_id"])
                assert {**by_id, "cost": None} == {**given, "cost": None}
                assert float(by_id["cost"]["total"]["base"]) == given["cost"]["total"]["base"]
                assert limited.result(f"provider/{category}/{answer.id}") == by_id
                for found in (
                    payi.requests.request_id.result.retrieve(given["request_id"]),
                    payi.requests.response_id.result.retrieve(answer.id, category=category),
                ):
                    assert found.xproxy_result.request_id == given["request_id"]
    rows = {row["request_id"] for row in limited.rows(2)}
    assert rows == {it.xproxy_result["request_id"] for it in answers.values()}
    for row in rows:
        assert limited.result(row)["request_id"] == row


def test_results_of_others_are_not_there(limited: Tenant) -> None:
    """One application's result is unknown to another's key."""
    with clients.openai_client(limited) as client:
        request_id = clients.chat(client).xproxy_result["request_id"]
    other = new_tenant(limited.service)
    with pytest.raises(RuntimeError, match="404"):
        other.result(request_id)


@pytest.mark.parametrize("stream", [False, True])
def test_the_result_can_be_left_out_of_bodies(
    limited: Tenant, standin: Standin, *, stream: bool
) -> None:
    """`xProxy-Result: off` leaves the provider's body as it came; headers and ids still tell."""
    headers = HEADERS | {"xProxy-Result": "off"}
    with clients.openai_client(limited) as client:
        response = client.chat.completions.with_raw_response.create(
            model=clients.CHAT_MODEL,
            messages=[{"role": "user", "content": "Hello."}],
            stream=stream,
            extra_headers=headers,
        )
        if stream:
            list(response.parse())
        else:
            assert "xproxy_result" not in response.text
            cost = Decimal(response.headers["xproxy-cost"])
            assert cost == Decimal(standin.ledger()[0].cost_pico or 0).scaleb(-12)
            assert response.headers["xproxy-limits"] == "team=ok,month=ok"
        check_by_id = limited.result(response.headers["xproxy-request-id"])
    assert check_by_id["limits"] == {"team": {"state": "ok"}, "month": {"state": "ok"}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_answers_carry_their_result(
    encoding: str, limited: Tenant, standin: Standin, *, stream: bool
) -> None:
    """A provider that compresses unasked is undone, so that the result fits in."""
    standin.script({"content_encoding": encoding})
    with clients.openai_client(limited) as client:
        answer = clients.chat(client, stream=stream, extra_headers=HEADERS)
        last = list(answer)[-1] if stream else answer
    check(last.model_extra["xproxy_result"], limited, standin)


def test_the_beta_messages_are_metered_alike(limited: Tenant, standin: Standin) -> None:
    """`client.beta` asks the same path with a query, which does not make it another endpoint."""
    messages: list[Any] = [{"role": "user", "content": "Hello."}]
    with clients.anthropic_client(limited) as client:
        answer: Any = client.beta.messages.create(
            model=clients.MESSAGES_MODEL,
            max_tokens=100,
            messages=messages,
            betas=["context-1m-2025-08-07"],
            extra_query={"beta": "true"},  # as older releases send by themselves
            extra_headers=HEADERS,
        )
    assert standin.ledger()[0].query == "beta=true"
    assert "anthropic-beta" in standin.ledger()[0].headers
    check(answer.xproxy_result, limited, standin)


def test_a_streaming_response_is_relayed_line_by_line(limited: Tenant, standin: Standin) -> None:
    """`with_streaming_response` sees every event as it comes, not all at the end."""
    standin.script({"chunk_delay_ms": 60})
    with (
        clients.openai_client(limited) as client,
        client.chat.completions.with_streaming_response.create(
            model=clients.CHAT_MODEL,
            messages=[{"role": "user", "content": "Hello."}],
            stream=True,
            extra_headers=HEADERS,
        ) as response,
    ):
        came = [time.monotonic() for line in response.iter_lines() if line.startswith("data: ")]
    assert len(came) > 5
    assert came[-1] - came[0] > 0.06 * 5
    assert limited.result(response.headers["xproxy-request-id"])["limits"]["team"] == {
        "state": "ok"
    }
