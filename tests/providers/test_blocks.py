"""Every kind of block that Anthropic's SDK knows, as it is sent and as it comes back."""

from __future__ import annotations

import json
from typing import Any, get_args, get_type_hints

import pytest
from anthropic import types

from metering.providers import DIALECTS

ANTHROPIC = DIALECTS["anthropic"]
MESSAGES = ANTHROPIC.endpoint("POST", "/v1/messages")
BASE64 = {"type": "base64", "media_type": "image/png", "data": "A" * 400}
TEXT_SOURCE = {"type": "text", "media_type": "text/plain", "data": "a page"}
RAN = {"stdout": "said", "stderr": "warned", "return_code": 0, "content": []}
SENT: dict[str, tuple[dict[str, Any], list[str]]] = {
    # kind: members beside the type, the texts of it that are counted
    "text": ({"text": "a boat"}, ["a boat"]),
    "image": ({"source": BASE64}, []),
    "document": ({"title": "Log", "source": TEXT_SOURCE}, ["Log", "a page"]),
    "search_result": (
        {"source": "http://x", "title": "Log", "content": [{"type": "text", "text": "found"}]},
        ["Log", "found", "http://x"],
    ),
    "thinking": ({"thinking": "hm", "signature": "s"}, ["hm"]),
    "redacted_thinking": ({"data": "opaque"}, []),
    "tool_use": ({"id": "t", "name": "n", "input": {"a": 1}}, ['{"a":1}']),
    "tool_result": ({"tool_use_id": "t", "content": "done"}, ["done"]),
    "server_tool_use": ({"id": "t", "name": "web_search", "input": {"q": "x"}}, ['{"q":"x"}']),
    "web_search_tool_result": (
        {
            "tool_use_id": "t",
            "content": [{"type": "web_search_result", "title": "Log", "url": "http://x"}],
        },
        ["Log"],
    ),
    "web_fetch_tool_result": (
        {
            "tool_use_id": "t",
            "content": {
                "type": "web_fetch_result",
                "url": "http://x",
                "content": {"type": "document", "title": "Log", "source": TEXT_SOURCE},
            },
        },
        ["Log", "a page"],
    ),
    "code_execution_tool_result": (
        {"tool_use_id": "t", "content": {"type": "code_execution_result", **RAN}},
        ["said", "warned"],
    ),
    "bash_code_execution_tool_result": (
        {"tool_use_id": "t", "content": {"type": "bash_code_execution_result", **RAN}},
        ["said", "warned"],
    ),
    "text_editor_code_execution_tool_result": (
        {
            "tool_use_id": "t",
            "content": {
                "type": "text_editor_code_execution_view_result",
                "file_type": "text",
                "content": "a line",
            },
        },
        ["a line"],
    ),
    "tool_search_tool_result": (
        {
            "tool_use_id": "t",
            "content": {
                "type": "tool_search_tool_search_result",
                "tool_references": [{"type": "tool_reference", "tool_name": "n"}],
            },
        },
        [],
    ),
    "container_upload": ({"file_id": "file_1"}, []),
}


def kinds_sent() -> set[str]:
    """The kinds of blocks that the SDK lets callers send."""
    hints = [get_type_hints(block)["type"] for block in get_args(types.ContentBlockParam)]
    return {get_args(hint)[0] for hint in hints}


def kinds_received() -> list[str]:
    """The kinds of blocks that the SDK reads in an answer."""
    union = get_args(types.ContentBlock)[0]
    return [get_args(block.model_fields["type"].annotation)[0] for block in get_args(union)]


def test_every_kind_has_a_line() -> None:
    """A kind that a newer SDK brings is looked at before it is taken for known."""
    assert kinds_sent() == SENT.keys()


@pytest.mark.parametrize("kind", SENT)
def test_what_is_sent_is_counted(kind: str) -> None:
    """Text is counted wherever it stands, pictures and what is opaque are not."""
    members, texts = SENT[kind]
    content = [{"type": kind, **members}, {"type": "image", "source": BASE64}]
    body = {"model": "m", "messages": [{"role": "user", "content": content}]}
    raw = json.dumps(body, separators=(",", ":")).encode()
    ask = ANTHROPIC.ask(MESSAGES, raw)
    assert list(ask.texts) == texts
    assert ANTHROPIC.upstream_body(ask, raw) is raw


@pytest.mark.parametrize("kind", kinds_received())
def test_what_comes_back_is_charged_by_its_usage(kind: str) -> None:
    """Whatever blocks there are, usage decides; without it, the answer is one to be estimated."""
    members = SENT.get(kind, ({}, []))[0]
    message = {"id": "msg_1", "model": "m", "content": [{"type": kind, **members}]}
    stated = message | {"usage": {"input_tokens": 9, "output_tokens": 4}}
    usage = ANTHROPIC.read(MESSAGES, json.dumps(stated).encode())
    assert (usage.counts, usage.finished) == ({"input": 9, "output": 4}, True)
    silent = ANTHROPIC.read(MESSAGES, json.dumps(message).encode())
    assert (silent.counts, silent.finished) == (None, True)
