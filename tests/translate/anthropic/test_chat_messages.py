"""What becomes of the messages of a chat: who says what, in which order, and with which marks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metering.errors import InvalidRequest
from metering.translate import chat_to_messages
from tests.translate.anthropic.forms import HI, MODEL, STRICT, TOOL, body, chat, turns

HOUR = {"type": "ephemeral", "ttl": "1h"}
PNG = "data:image/png;base64,iVBORw0KGgo="
PDF = "data:application/pdf;base64,JVBERi0="
LATE, EARLY = "claude-opus-4-8", "claude-sonnet-4-6"


def user(content: Any, **more: Any) -> dict[str, Any]:
    """A user's message."""
    return {"role": "user", "content": content, **more}


def call(index: int, arguments: str = "{}", **more: Any) -> dict[str, Any]:
    """A call of a tool."""
    return {
        "id": f"call_{index}",
        "type": "function",
        "function": {"name": "f", "arguments": arguments},
        **more,
    }


def assistant(*calls: dict[str, Any], content: Any = None, **more: Any) -> dict[str, Any]:
    """An assistant's message."""
    said = {"tool_calls": list(calls)} if calls else {}
    return {"role": "assistant", "content": content, **said, **more}


def tool(index: int, content: Any = "r", **more: Any) -> dict[str, Any]:
    """A tool's answer."""
    return {"role": "tool", "tool_call_id": f"call_{index}", "content": content, **more}


def text(said: str, **more: Any) -> dict[str, Any]:
    """A part or block of text."""
    return {"type": "text", "text": said, **more}


def test_system_and_developer_messages_are_the_system_prompt() -> None:
    """All parts of all of them, in order; also where the first part is no text to begin with."""
    made = body(
        messages=[
            {"role": "system", "content": "a"},
            {"role": "developer", "content": [text("b", cache_control=HOUR), text(""), text("c")]},
            {"role": "system", "content": "d", "cache_control": HOUR},
            *HI,
        ]
    )
    assert made["system"] == [
        text("a"),
        text("b", cache_control=HOUR),
        text("c"),
        text("d", cache_control=HOUR),
    ]
    assert made["messages"] == HI


def test_system_messages_alone_are_the_users() -> None:
    """OpenAI answers them, and Anthropic wants a message of the user."""
    messages = [{"role": "system", "content": "a"}, {"role": "system", "content": "b"}]
    made = body(messages=messages)
    assert made["messages"] == [user([text("a"), text("b")])]
    assert "system" not in made
    assert chat(messages=messages).changed == ("messages",)


def test_anthropics_own_system_comes_first() -> None:
    """A client may send it beside the messages, as text or as blocks."""
    messages = [{"role": "system", "content": "b"}, *HI]
    assert body(messages=messages, system="a")["system"] == [text("a"), text("b")]
    assert body(messages=messages, system=[text("a")])["system"] == [text("a"), text("b")]


@pytest.mark.parametrize(
    ("model", "roles", "system", "changed"),
    [
        (LATE, ["user", "assistant", "user", "system"], 0, ("messages[2]",)),
        (EARLY, ["user", "assistant", "user"], 1, ("messages[2]",)),
    ],
)
def test_a_system_message_amid_the_conversation(
    model: str, roles: list[str], system: int, changed: tuple[str, ...]
) -> None:
    """It stays in its turn where the model takes it, behind the user; else it goes to the front.
    Either is said, as its place is another."""
    messages = [user("a"), assistant(content="b"), {"role": "system", "content": "s"}, user("c")]
    made = body(messages=messages, model=model)
    assert [it["role"] for it in made["messages"]] == roles
    assert len(made.get("system", [])) == system
    assert chat(messages=messages, model=model).changed == changed


def test_a_system_message_after_the_user_keeps_its_place() -> None:
    """Several in a row too, before an assistant and at the end; and nothing has changed then."""
    system = {"role": "system", "content": [text("s")]}
    messages = [user("a"), system, system, assistant(content="b"), user("c"), system]
    assert turns(*messages, model=LATE) == messages
    assert chat(messages=messages, model=LATE).changed == ()


def test_a_system_message_after_the_assistant_has_no_place_in_the_conversation() -> None:
    """Anthropic refuses it there, so it goes to the front."""
    messages = [user("a"), assistant(content="b"), {"role": "system", "content": "s"}]
    assert body(messages=messages, model=LATE)["system"] == [text("s")]
    assert chat(messages=messages, model=LATE).changed == ("messages[2]",)


def test_results_of_tools_are_one_turn_and_the_user_joins_it() -> None:
    """Anthropic wants all results of a turn in the next message, and before anything else."""
    messages = [
        user("a"),
        assistant(call(1), call(2)),
        tool(1),
        user([text("and")]),
        tool(2, [text("x"), {"type": "image_url", "image_url": {"url": PNG}}]),
        user("go"),
        assistant(content="done"),
        user("b"),
    ]
    made = turns(*messages)
    assert [it["role"] for it in made] == ["user", "assistant", "user", "assistant", "user"]
    kinds = [it["type"] for it in made[2]["content"]]
    assert kinds == ["tool_result", "tool_result", "text", "text"]
    assert [it["type"] for it in made[2]["content"][1]["content"]] == ["text", "image"]
    assert made[4] == user("b")


def test_a_result_keeps_its_marks() -> None:
    """`is_error` and `cache_control` of a tool's message, and of its parts."""
    messages = [
        user("a"),
        assistant(call(1), call(2)),
        tool(1, is_error=True, cache_control=HOUR, name="f"),
        tool(2, [text("x", cache_control=HOUR)]),
    ]
    first, second = turns(*messages)[2]["content"]
    assert (first["is_error"], first["cache_control"]) == (True, HOUR)
    assert second["content"] == [text("x", cache_control=HOUR)]
    assert chat(messages=messages).dropped == ()


def test_an_assistant_says_and_calls() -> None:
    """Text first, then the calls with their arguments as JSON, not rounded and not reordered."""
    arguments = '{"z": 1.0000000000000000001, "a": {"n": 12345678901234567890}}'
    messages = [
        user("a"),
        assistant(call(1, arguments), call(2, ""), content="I will"),
        tool(1),
        tool(2),
    ]
    made = chat(messages=messages).body
    assert arguments.encode() in made
    said = turns(*messages)[1]["content"]
    assert [it["type"] for it in said] == ["text", "tool_use", "tool_use"]
    assert said[2]["input"] == {}


@pytest.mark.parametrize(
    "arguments", ["{", "[1]", '"x"', "nope", '{"a":}', "{}{}", "[" * 100_000], ids=lambda it: it[:9]
)
def test_arguments_that_are_no_json_object_are_the_callers_fault(arguments: str) -> None:
    """Portkey answers 500; here it is 400, with the path."""
    with pytest.raises(InvalidRequest) as fault:
        chat(messages=[user("a"), user("b"), assistant(call(1, arguments))])
    assert fault.value.field == "messages[2].tool_calls[0].function.arguments"


def test_content_blocks_win_over_content() -> None:
    """What an answer gave goes back as it is, thinking and its signature too, so that a
    conversation with thinking and tools goes on; calls among them are not said twice."""
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "s=="},
        text("I will"),
        {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}},
    ]
    message = assistant(call(1), call(2), content="else", content_blocks=blocks)
    made = turns(user("a"), message, tool(1), tool(2))[1]["content"]
    assert made[:3] == blocks
    assert [it.get("id") for it in made[2:]] == ["call_1", "call_2"]
    assert chat(messages=[user("a"), message]).dropped == ()


def test_thinking_blocks_go_before_the_text() -> None:
    """As others name them. Thoughts without a signature cannot go back, and that is said."""
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s=="}
    message = assistant(content="b", thinking_blocks=[thinking], reasoning_content="hm")
    assert turns(user("a"), message, user("c"))[1]["content"] == [thinking, text("b")]
    bare = [user("a"), assistant(content="b", reasoning_content="hm"), user("c")]
    assert chat(messages=bare).dropped == ("messages[1].reasoning_content",)


def test_functions_before_there_were_tools() -> None:
    """A `function_call` and its answer are joined by an id of ours."""
    messages = [
        user("a"),
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "r"},
    ]
    made = turns(*messages)
    assert made[1]["content"][0]["id"] == made[2]["content"][0]["tool_use_id"]
    with pytest.raises(InvalidRequest) as fault:
        chat(messages=[user("a"), {"role": "function", "name": "f", "content": "r"}])
    assert fault.value.field == "messages[1]"


def test_what_says_nothing_is_left_out() -> None:
    """Anthropic refuses empty texts and turns; they are not sent."""
    messages = [user("a"), assistant(content=""), user(""), user([text(""), text("b")])]
    assert turns(*messages) == [user("a"), user([text("b")])]


def test_what_says_nothing_in_other_places() -> None:
    """System messages amid the conversation, and results of tools."""
    messages = [
        user("a"),
        {"role": "system", "content": ""},
        user([text("")]),
        assistant(call(1), call(2)),
        tool(1, ""),
        tool(2, [text("")]),
    ]
    made = turns(*messages)
    assert [it["role"] for it in made] == ["user", "assistant", "user"]
    results = [{"type": "tool_result", "tool_use_id": f"call_{index}"} for index in (1, 2)]
    assert made[2]["content"] == results


def test_a_mark_on_a_message_without_a_place_for_it() -> None:
    """Blocks that go as they are keep what they have, and a block's own mark holds."""
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s=="}
    messages = [
        user([text("a", cache_control={"type": "ephemeral"})], cache_control=HOUR),
        assistant(content_blocks=[thinking], cache_control=HOUR),
        user("b"),
    ]
    said = chat(messages=messages)
    assert json.loads(said.body)["messages"][0]["content"] == messages[0]["content"]
    assert said.dropped == ("messages[1].cache_control",)


def test_how_closely_to_look_at_an_image_is_lost() -> None:
    """Anthropic has no word for it."""
    image = {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}
    said = chat(messages=[user([image])])
    assert said.dropped == ("messages[0].content[0].image_url.detail",)


def test_an_answer_goes_back_as_it_came() -> None:
    """What SDKs dump of an answer (`annotations`, nulls) is nothing that is lost."""
    dumped: dict[str, Any] = {
        "role": "assistant",
        "content": "b",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
    }
    assert chat(messages=[user("a"), dumped, user("c")]).dropped == ()


@pytest.mark.parametrize("content", ["x", [text("x")]])
def test_names_of_who_speaks_are_said_to_be_lost(content: Any) -> None:
    """Anthropic has no place for them."""
    assert chat(messages=[user(content, name="Ann")]).dropped == ("messages[0].name",)


def test_marks_stay_where_they_are() -> None:
    """`cache_control` with its ttl: on parts, messages, images of both kinds, files and calls."""
    image = {"type": "image_url", "image_url": {"url": "https://x/y.png"}, "cache_control": HOUR}
    inline = {"type": "image_url", "image_url": {"url": PNG}, "cache_control": HOUR}
    file = {"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}, "cache_control": HOUR}
    messages = [
        user([text("a", cache_control=HOUR), image, inline, file]),
        assistant(call(1, cache_control=HOUR), content=[text("b", cache_control=HOUR)]),
        tool(1),
        assistant(content="c"),
        user("d", cache_control=HOUR),
    ]
    made = turns(*messages)
    assert [it["cache_control"] for it in made[0]["content"]] == [HOUR] * 4
    assert [it["cache_control"] for it in made[1]["content"]] == [HOUR] * 2
    assert made[4]["content"] == [text("d", cache_control=HOUR)]
    tools = [{**TOOL, "cache_control": HOUR}]
    assert body(messages=messages, tools=tools)["tools"][0]["cache_control"] == HOUR


def test_openais_own_mark_is_the_plainest_one() -> None:
    """How long it holds differs, so it is said to have changed."""
    part = text("a", prompt_cache_breakpoint={"mode": "explicit"})
    said = chat(messages=[user([part])])
    made = json.loads(said.body)["messages"][0]["content"]
    assert made == [text("a", cache_control={"type": "ephemeral"})]
    assert said.changed == ("messages[0].content[0].prompt_cache_breakpoint",)


def base64(media: str, data: str) -> dict[str, Any]:
    """A source in the request."""
    return {"type": "base64", "media_type": media, "data": data}


# part; block
PARTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"type": "image_url", "image_url": {"url": "https://x/y", "detail": "auto"}},
        {"type": "image", "source": {"type": "url", "url": "https://x/y"}},
    ),
    (
        {"type": "image_url", "image_url": "http://x/y"},
        {"type": "image", "source": {"type": "url", "url": "http://x/y"}},
    ),
    (
        {"type": "image_url", "image_url": {"url": PNG}},
        {"type": "image", "source": base64("image/png", "iVBORw0KGgo=")},
    ),
    (
        {"type": "image_url", "image_url": {"url": "data:image/JPG;name=a;base64,AAAA"}},
        {"type": "image", "source": base64("image/jpeg", "AAAA")},
    ),
    (
        {"type": "image_url", "image_url": {"url": PDF}},
        {"type": "document", "source": base64("application/pdf", "JVBERi0=")},
    ),
    (
        {"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}},
        {
            "type": "document",
            "source": base64("application/pdf", "JVBERi0="),
            "title": "a.pdf",
        },
    ),
    (
        {"type": "file", "file": {"file_data": "JVBERi0="}},
        {"type": "document", "source": base64("application/pdf", "JVBERi0=")},
    ),
    (
        {"type": "file", "file": {"file_data": "w6Q=", "mime_type": "text/plain"}},
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "\u00e4"},
        },
    ),
    (
        {"type": "file", "file": {"file_data": "eCx5", "filename": "a.csv"}},
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "x,y"},
            "title": "a.csv",
        },
    ),
    (
        {"type": "file", "file": {"file_data": "AAAA", "filename": "a.png"}},
        {"type": "image", "source": base64("image/png", "AAAA")},
    ),
    (
        {"type": "file", "file": {"file_url": "https://x/a.pdf"}},
        {"type": "document", "source": {"type": "url", "url": "https://x/a.pdf"}},
    ),
    (
        {"type": "file", "file": {"file_id": "file_1", "filename": "a.pdf"}, "context": "c"},
        {
            "type": "document",
            "source": {"type": "file", "file_id": "file_1"},
            "title": "a.pdf",
            "context": "c",
        },
    ),
    (
        {"type": "document", "source": base64("application/pdf", "AAAA")},
        {"type": "document", "source": base64("application/pdf", "AAAA")},
    ),
    ({"type": "refusal", "refusal": "no"}, {"type": "text", "text": "no"}),
]


@pytest.mark.parametrize(("part", "block"), PARTS, ids=lambda it: json.dumps(it)[:60])
def test_each_part_has_its_block(part: dict[str, Any], block: dict[str, Any]) -> None:
    """Texts, images and files, wherever they are."""
    assert turns(user([part]))[0]["content"] == [block]
    assert chat(messages=[user([part])]).dropped == ()


def test_slashes_may_be_escaped() -> None:
    """Some encoders do so, in data: URLs as well."""
    raw = json.dumps({"model": MODEL, "messages": [user([PARTS[2][0]])]}).replace("/", "\\/")
    made = json.loads(chat_to_messages(raw.encode(), STRICT).body)
    assert made["messages"][0]["content"] == [PARTS[2][1]]


CONTENT = "messages[0].content"
BAD_PARTS: list[tuple[dict[str, Any], str]] = [
    ({"type": "input_audio", "input_audio": {}}, f"{CONTENT}[0].type"),
    ({"type": "video_url", "video_url": {}}, f"{CONTENT}[0].type"),
    ({"text": "x"}, f"{CONTENT}[0].type"),
    ({"type": "text"}, f"{CONTENT}[0].text"),
    ({"type": "text", "text": 1}, f"{CONTENT}[0].text"),
    ({"type": "image_url"}, f"{CONTENT}[0].image_url"),
    ({"type": "image_url", "image_url": {}}, f"{CONTENT}[0].image_url.url"),
    ({"type": "image_url", "image_url": {"url": "data:image/png"}}, f"{CONTENT}[0].image_url.url"),
    ({"type": "image_url", "image_url": {"url": "data:,x"}}, f"{CONTENT}[0].image_url.url"),
    ({"type": "image_url", "image_url": {"url": "ftp://x"}}, f"{CONTENT}[0].image_url.url"),
    ({"type": "image_url", "image_url": {"url": 1}}, f"{CONTENT}[0].image_url.url"),
    (
        {"type": "image_url", "image_url": {"url": "data:audio/wav;base64,AAAA"}},
        f"{CONTENT}[0].image_url.url",
    ),
    ({"type": "file"}, f"{CONTENT}[0].file"),
    ({"type": "file", "file": {}}, f"{CONTENT}[0].file.file_data"),
    ({"type": "file", "file": {"file_data": ""}}, f"{CONTENT}[0].file.file_data"),
    (
        {"type": "file", "file": {"file_data": "/w==", "filename": "a.txt"}},
        f"{CONTENT}[0].file",
    ),
]


@pytest.mark.parametrize(("part", "field"), BAD_PARTS, ids=lambda it: json.dumps(it)[:60])
def test_a_part_the_models_cannot_take_is_refused(part: dict[str, Any], field: str) -> None:
    """Portkey drops it in silence; here the caller is told which, and what is possible."""
    with pytest.raises(InvalidRequest) as fault:
        chat(messages=[user([part])])
    assert fault.value.field == field


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"role": "tool", "content": "r"}, "messages[1].tool_call_id"),
        ({"role": "tool", "content": "r", "tool_call_id": 1}, "messages[1].tool_call_id"),
        (assistant({"type": "custom", "id": "c"}), "messages[1].tool_calls[0].type"),
        (assistant({"function": {"name": "f"}}), "messages[1].tool_calls[0].id"),
        (assistant({"id": "c"}), "messages[1].tool_calls[0].function"),
        (assistant({"id": 1, "function": {"name": "f"}}), "messages[1].tool_calls[0].id"),
        (assistant({"id": "c", "function": {}}), "messages[1].tool_calls[0].function.name"),
        (
            assistant({"id": "c", "function": {"name": 1}}),
            "messages[1].tool_calls[0].function.name",
        ),
        (assistant(content_blocks=[1]), "messages[1].content_blocks"),
        (
            {"role": "system", "content": [{"type": "image_url", "image_url": {"url": PNG}}]},
            "messages[1].content[0].type",
        ),
    ],
)
def test_a_message_that_makes_no_sense_is_refused(message: dict[str, Any], field: str) -> None:
    """With the path of what is missing or wrong."""
    with pytest.raises(InvalidRequest) as fault:
        chat(messages=[user("a"), message])
    assert fault.value.field == field
