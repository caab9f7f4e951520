"""Calls in another form than their provider's: by the SDKs, through the running service.

What Portkey's gateway loses on this way, by runs of it, is a test here, with the right outcome.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.acceptance.tenant import Tenant
from tests.acceptance.test_unified import CLAUDE, GPT, HELLO, came
from tests.standin.process import Standin

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/p"}]}},
            "$defs": {"p": {"type": "string"}},
            "additionalProperties": False,
        },
    },
}
TOOL_EVENTS: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": CLAUDE,
            "content": [],
            "usage": {"input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 1},
        },
    },
    *[
        event
        for index, place in enumerate(("Oslo", "Rome"))
        for event in (
            {
                "type": "content_block_start",
                "index": index,
                "content_block": {
                    "type": "tool_use",
                    "id": f"toolu_{index}",
                    "name": "get_weather",
                    "input": {},
                },
            },
            {
                "type": "content_block_delta",
                "index": index,
                "delta": {"type": "input_json_delta", "partial_json": '{"place":"'},
            },
            {
                "type": "content_block_delta",
                "index": index,
                "delta": {"type": "input_json_delta", "partial_json": f'{place}"}}'},
            },
            {"type": "content_block_stop", "index": index},
        )
    ],
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 30},
    },
    {"type": "message_stop"},
]


@pytest.fixture
def chat(tenant: Tenant) -> openai.OpenAI:
    """OpenAI's client, of the unified surface."""
    return openai.OpenAI(base_url=tenant.service.url + "/v1", api_key=tenant.key, max_retries=0)


@pytest.fixture
def claude(tenant: Tenant) -> anthropic.Anthropic:
    """Anthropic's client, of the unified surface."""
    return anthropic.Anthropic(base_url=tenant.service.url, api_key=tenant.key, max_retries=0)


def ask(chat: openai.OpenAI, **members: Any) -> Any:
    """A chat completion of a Claude model."""
    return chat.chat.completions.create(**{"model": CLAUDE, "messages": HELLO, **members})


def cost_pico(result: dict[str, Any]) -> int:
    """What a result says that its call cost."""
    return int((Decimal(str(result["cost"]["total"]["base"])) * 10**12).to_integral_value())


def test_a_chat_with_claude(tenant: Tenant, chat: openai.OpenAI, standin: Standin) -> None:
    """OpenAI's answer, the provider's own id, usage that adds up, and the cost to the pico."""
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 1100,
        "cache_creation_input_tokens": 0,
        "output_tokens": 6,
    }
    raw = chat.with_raw_response.chat.completions.create(
        model=CLAUDE,
        messages=HELLO,  # type: ignore[arg-type]
        max_tokens=50,
        seed=7,
        temperature=1.7,
        extra_headers={"x-standin": json.dumps({"usage": usage})},
    )
    answer = raw.parse()
    call = came(standin)
    assert (call.path, answer.id, answer.object) == ("/v1/messages", call.id, "chat.completion")
    assert answer.choices[0].finish_reason in ("stop", "length")
    found = answer.usage
    assert found is not None
    assert (found.prompt_tokens, found.completion_tokens, found.total_tokens) == (1110, 6, 1116)
    assert found.prompt_tokens_details is not None
    assert found.prompt_tokens_details.cached_tokens == 1100
    result = json.loads(raw.text, parse_float=Decimal)["xproxy_result"]
    assert cost_pico(result) == call.cost_pico
    assert raw.headers["xproxy-dropped-params"] == "seed"
    assert raw.headers["xproxy-changed-params"] == "temperature"
    assert tenant.row()["cost_pico"] == str(call.cost_pico)


@pytest.mark.parametrize("asked", [False, True])
def test_a_stream_from_claude(
    tenant: Tenant,
    chat: openai.OpenAI,
    standin: Standin,
    asked: bool,  # noqa: FBT001
) -> None:
    """Every chunk can be read by its first choice, unless usage was asked for: then the last one
    has it; and the cost is in the last one that may have it."""
    options = {"stream_options": {"include_usage": True}} if asked else {}
    chunks = list(ask(chat, max_tokens=50, stream=True, **options))
    call = came(standin)
    assert call.complete
    with_choices = chunks[:-1] if asked else chunks
    assert all(it.choices for it in with_choices)
    assert with_choices[0].choices[0].delta.role == "assistant"
    assert [it.choices[0].finish_reason for it in with_choices[:-1]] == [None] * (
        len(with_choices) - 1
    )
    assert with_choices[-1].choices[0].finish_reason
    assert {it.id for it in chunks} == {call.id}
    assert cost_pico(chunks[-1].xproxy_result) == call.cost_pico
    if asked:
        usage = chunks[-1].usage
        assert usage.prompt_tokens + usage.completion_tokens == usage.total_tokens
    assert tenant.row()["streamed"] is True


def test_the_first_chunk_does_not_wait(chat: openai.OpenAI, standin: Standin) -> None:
    """It is here while the provider has more to say: no sleep, and no headers held back. The
    provider writes a call into its books when it has said all."""
    standin.script(then=[{"chunk_delay_ms": 1_000, "chunks": 4}])
    stream = ask(chat, max_tokens=50, stream=True)
    assert next(iter(stream)).choices[0].delta.role == "assistant"
    assert standin.ledger() == []
    assert list(stream)[-1].choices[0].finish_reason
    assert came(standin).complete


def test_parallel_tool_calls_in_a_stream(chat: openai.OpenAI, standin: Standin) -> None:
    """Each with its own index, id and arguments; the schema came to the provider as it was sent."""
    standin.script(then=[{"events": TOOL_EVENTS}])
    calls: dict[int, dict[str, str]] = {}
    finish = None
    for chunk in ask(chat, max_tokens=50, stream=True, tools=[WEATHER]):
        finish = chunk.choices[0].finish_reason or finish
        for call in chunk.choices[0].delta.tool_calls or ():
            one = calls.setdefault(call.index, {"arguments": ""})
            one |= {"id": call.id} if call.id else {}
            one["arguments"] += call.function.arguments or ""
    assert finish == "tool_calls"
    assert calls == {
        0: {"id": "toolu_0", "arguments": '{"place":"Oslo"}'},
        1: {"id": "toolu_1", "arguments": '{"place":"Rome"}'},
    }


def test_a_cut_stream_is_no_answer(tenant: Tenant, chat: openai.OpenAI, standin: Standin) -> None:
    """The client is told, and the call is charged for what came."""
    standin.script(then=[{"cut_at_byte": 900}])
    finished: list[Any] = []
    stream = iter(ask(chat, max_tokens=50, stream=True))
    with pytest.raises(openai.APIError, match="cut off"):
        finished.extend(it.choices[0].finish_reason for it in stream)
    assert set(finished) <= {None}
    row = tenant.row()
    assert row["estimated"] is True


def test_an_error_in_a_stream_reaches_the_client(chat: openai.OpenAI, standin: Standin) -> None:
    """With the provider's own words."""
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    standin.script(then=[{"events": [TOOL_EVENTS[0], overloaded]}])
    with pytest.raises(openai.APIError, match="Overloaded"):
        list(ask(chat, max_tokens=50, stream=True))


@pytest.mark.parametrize("status", [400, 429, 529])
def test_a_providers_error(chat: openai.OpenAI, standin: Standin, status: int) -> None:
    """Its status and its words, where OpenAI's SDK looks for them."""
    error = {"type": "error", "error": {"type": "some_error", "message": "No luck."}}
    standin.script(then=[{"status": status, "error": error, "headers": {"retry-after": "7"}}])
    with pytest.raises(openai.APIStatusError) as caught:
        ask(chat, max_tokens=50)
    assert caught.value.status_code == status
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.body is not None
    body: Any = caught.value.body
    assert (body["message"], body["type"]) == ("No luck.", "some_error")


@pytest.mark.parametrize(
    ("members", "path"),
    [
        (
            {
                "messages": [
                    *HELLO,
                    {
                        "role": "assistant",
                        "tool_calls": [
                            {
                                "id": "c",
                                "type": "function",
                                "function": {"name": "f", "arguments": "{bad"},
                            }
                        ],
                    },
                ]
            },
            "messages[1].tool_calls[0].function.arguments",
        ),
        ({"messages": "x"}, "messages"),
        ({"max_tokens": "x"}, "max_tokens"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages[0].content[0].type",
        ),
    ],
)
def test_bad_input_is_named(
    chat: openai.OpenAI, standin: Standin, members: dict[str, Any], path: str
) -> None:
    """By its path, with a 400, before anybody is called."""
    with pytest.raises(openai.BadRequestError) as caught:
        ask(chat, **members)
    assert caught.value.param == path
    assert standin.ledger() == []


def test_a_model_writes_as_much_as_it_can(tenant: Tenant, standin: Standin) -> None:
    """Who sets no cap gets the model's own; under a hard cap a share of what is left, so that the
    call is not refused for what it will not use."""
    body = {"limit_id": "cap", "limit_name": "cap", "max": 0.05, "limit_type": "block"}
    tenant.manage("POST", "limits", body | {"hard_cap": True})
    asked = {"model": CLAUDE, "messages": HELLO, "tools": [WEATHER], "tool_choice": "auto"}
    for headers in ({}, {"xProxy-Limit-IDs": "cap"}):
        answer = tenant.post("/v1/chat/completions", asked, headers)
        assert answer.status_code == 200, answer.text
    whole = tenant.post(
        "/v1/chat/completions", asked | {"max_tokens": 64_000}, {"xProxy-Limit-IDs": "cap"}
    )
    assert whole.status_code == 400, "what the model may write costs more than the cap"


def test_legacy_completions(tenant: Tenant, standin: Standin) -> None:
    """`/v1/completions` of a Claude model is Anthropic's `/v1/complete`."""
    body = {"model": "claude-2.1", "prompt": "Hello.", "max_tokens": 20, "stop": "END"}
    answer = tenant.post("/v1/completions", body, {"x-portkey-provider": "anthropic"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["object"] == "text_completion"
    assert came(standin).path == "/v1/complete"


def test_a_response_from_claude(tenant: Tenant, chat: openai.OpenAI, standin: Standin) -> None:
    """OpenAI's object with the provider's own id, usage that adds up, and the cost to the pico."""
    raw = chat.with_raw_response.responses.create(
        model=CLAUDE, input="hello", max_output_tokens=50, store=True, temperature=1.7
    )
    answer = raw.parse()
    call = came(standin)
    assert (call.path, answer.id, answer.object) == ("/v1/messages", call.id, "response")
    assert answer.output_text
    found = answer.usage
    assert found is not None
    assert found.total_tokens == found.input_tokens + found.output_tokens
    result = json.loads(raw.text, parse_float=Decimal)["xproxy_result"]
    assert cost_pico(result) == call.cost_pico
    assert raw.headers["xproxy-dropped-params"] == "store"
    assert raw.headers["xproxy-changed-params"] == "temperature"
    assert tenant.row()["cost_pico"] == str(call.cost_pico)


def test_a_stream_of_a_response_from_claude(
    tenant: Tenant, chat: openai.OpenAI, standin: Standin
) -> None:
    """The last event has all calls, and the cost."""
    standin.script(then=[{"events": TOOL_EVENTS}])
    function: Any = WEATHER["function"]
    tools: Any = [{"type": "function", **function, "strict": None}]
    events: Any = chat.responses.create(model=CLAUDE, input="hello", tools=tools, stream=True)
    *_, last = events
    answer = last.response
    calls = [it for it in answer.output if it.type == "function_call"]
    assert [json.loads(it.arguments) for it in calls] == [{"place": "Oslo"}, {"place": "Rome"}]
    assert last.type == "response.completed"
    row = tenant.row()
    assert (row["cost_pico"], row["streamed"]) == (str(cost_pico(last.xproxy_result)), True)


def test_a_cut_stream_is_no_response(tenant: Tenant, chat: openai.OpenAI, standin: Standin) -> None:
    """It has failed, by the events that OpenAI has for that."""
    standin.script(then=[{"cut_at_byte": 900}])
    made: list[str] = []
    stream = chat.responses.create(model=CLAUDE, input="hello", stream=True)
    with pytest.raises(openai.APIConnectionError):  # the answer's own end is missing as well
        made.extend(it.type for it in stream)
    assert made[-2:] == ["error", "response.failed"]
    assert "response.completed" not in made
    assert tenant.row()["estimated"] is True


def test_embeddings_of_anthropic(tenant: Tenant, standin: Standin) -> None:
    """There are none, and nothing is called for them."""
    body = {"model": CLAUDE, "input": "x"}
    answer = tenant.post("/v1/embeddings", body, {"x-portkey-provider": "anthropic"})
    assert answer.status_code in (400, 404), answer.text
    assert "anthropic" in answer.json()["error"]["message"]
    assert standin.ledger() == []


def test_anthropics_models_as_openai_lists_them(chat: openai.OpenAI, tenant: Tenant) -> None:
    """For clients of OpenAI's; Anthropic's own get Anthropic's list."""
    header = {"x-portkey-provider": "anthropic"}
    listed = chat.models.list(extra_headers=header)
    assert listed.data
    assert {it.object for it in listed.data} == {"model"}
    sent = {"xproxy-api-key": tenant.key, "anthropic-version": "2023-06-01", **header}
    own = tenant.service.http.get("/v1/models", headers=sent).json()
    assert own["data"][0]["type"] == "model"


# And back


def test_a_message_from_gpt(tenant: Tenant, claude: anthropic.Anthropic, standin: Standin) -> None:
    """Anthropic's answer of OpenAI's model, its cost to the pico."""
    raw = claude.messages.with_raw_response.create(
        model=GPT,
        max_tokens=50,
        system="Be brief.",
        messages=HELLO,  # type: ignore[arg-type]
        extra_body={"top_k": 3},
    )
    answer, call = raw.parse(), came(standin)
    assert (call.path, answer.id, answer.type) == ("/v1/chat/completions", call.id, "message")
    assert answer.stop_reason in ("end_turn", "max_tokens")
    result = json.loads(raw.text(), parse_float=Decimal)["xproxy_result"]
    assert cost_pico(result) == call.cost_pico
    assert raw.headers["xproxy-dropped-params"] == "top_k"
    assert tenant.row()["provider"] == "openai"


def test_a_stream_of_messages_from_gpt(
    tenant: Tenant, claude: anthropic.Anthropic, standin: Standin
) -> None:
    """The SDK puts it together; the result is on `message_delta`."""
    with claude.messages.stream(model=GPT, max_tokens=50, messages=HELLO) as stream:  # type: ignore[arg-type]
        events = list(stream)
        message = stream.get_final_message()
    call = came(standin)
    assert message.id == call.id
    [delta] = [it for it in events if it.type == "message_delta"]
    assert cost_pico((delta.model_extra or {})["xproxy_result"]) == call.cost_pico
    assert message.usage.output_tokens > 0


def test_a_cut_stream_of_messages(claude: anthropic.Anthropic, standin: Standin) -> None:
    """Is told as an error, not as an end."""
    standin.script(then=[{"cut_at_byte": 900}])
    with (
        pytest.raises((anthropic.APIError, httpx.RemoteProtocolError)),
        claude.messages.stream(model=GPT, max_tokens=50, messages=HELLO) as stream,  # type: ignore[arg-type]
    ):
        list(stream)


def test_an_error_of_openais_for_anthropics_sdk(
    claude: anthropic.Anthropic, standin: Standin
) -> None:
    """Anthropic's type of error by its status, OpenAI's words."""
    error = {"error": {"message": "No luck.", "type": "x", "param": None, "code": None}}
    standin.script(then=[{"status": 429, "error": error}])
    with pytest.raises(anthropic.RateLimitError) as caught:
        claude.messages.create(model=GPT, max_tokens=5, messages=HELLO)  # type: ignore[arg-type]
    body: Any = caught.value.body
    assert body["error"] == {"type": "rate_limit_error", "message": "No luck."}
