"""Azure's dialects: what its paths mean, who names the model, and which streams state usage."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metering.errors import InvalidRequest
from metering.providers import DIALECTS, provider_of
from metering.providers.base import Endpoint, Usage
from tests.providers.replay import cuts, objects

OPENAI, CLAUDE = DIALECTS["azure.openai"], DIALECTS["azure.anthropic"]
PREVIEW = b"api-version=2024-10-21"


def metered(name: str, model: str = "", *, streams_usage: bool = True) -> Endpoint:
    """A metered endpoint at a deployment."""
    return Endpoint(name, "metered", model=model, streams_usage=streams_usage)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/openai/deployments/dep/chat/completions", metered("chat.completions", "dep")),
        ("/openai/deployments/My.Dep-1/completions", metered("completions", "My.Dep-1")),
        ("/openai/deployments/dep/embeddings", metered("embeddings", "dep")),
        ("/openai/deployments/dep/images/generations", metered("images.generations", "dep")),
        ("/openai/deployments/dep/images/edits", metered("images.edits", "dep")),
        ("/openai/deployments/dep/audio/speech", metered("audio.speech", "dep")),
        ("/openai/deployments/dep/audio/transcriptions", metered("audio.transcriptions", "dep")),
        ("/openai/deployments/dep/audio/translations", metered("audio.translations", "dep")),
        ("/openai/deployments/a%20b/chat/completions", metered("chat.completions", "a b")),
        ("/openai/deployments/%07/chat/completions", metered("chat.completions", "")),
        ("/deployments/dep/chat/completions", metered("chat.completions", "dep")),
        ("/openai/v1/chat/completions", metered("chat.completions")),
        ("/openai/v1/responses", metered("responses")),
        ("/openai/responses", metered("responses")),
        ("/v1/responses", metered("responses")),
        ("/openai//Deployments/dep//chat/%63ompletions/", metered("chat.completions", "dep")),
        ("/openai%2Fdeployments%2Fdep/chat/completions", metered("chat.completions", "dep")),
        ("/OpenAI/V1/Responses", metered("responses")),
    ],
)
def test_paths_that_are_metered(path: str, expected: Endpoint) -> None:
    """With a deployment, the versionless way or the dated one; however they are spelled."""
    assert OPENAI.endpoint("POST", path, PREVIEW) == expected


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/openai/models", "free"),
        ("GET", "/openai/deployments", "free"),
        ("GET", "/openai/deployments/dep", "free"),
        ("POST", "/openai/v1/responses/input_tokens", "free"),
        ("POST", "/openai/files", "free"),
        ("POST", "/openai/batches", "unmetered"),
        ("POST", "/openai/images/generations:submit", "unmetered"),
        ("GET", "/openai/operations/images/1", "free"),
        ("POST", "/openai/deployments/dep", "unmetered"),
        ("POST", "/openai/deployments/dep/extensions/chat/completions", "unmetered"),
        ("POST", "/speechtotext/transcriptions:transcribe", "unmetered"),
    ],
)
def test_paths_that_are_not(method: str, path: str, kind: str) -> None:
    """What answers with the place of an operation, and what nobody knows, is not metered."""
    assert OPENAI.endpoint(method, path).kind == kind


def test_a_response_is_looked_at_again() -> None:
    """Of one made in the background, its end restates the usage, as with OpenAI."""
    for path in ("/openai/responses/resp_1", "/openai/v1/responses/resp_1"):
        assert OPENAI.endpoint("GET", path, PREVIEW).restates
    assert OPENAI.endpoint("POST", "/openai/responses/resp_1/cancel").restates


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/messages", "metered"),
        ("/anthropic/v1/messages", "metered"),
        ("/Anthropic/V1/messages/", "metered"),
        ("/v1/messages/count_tokens", "free"),
        ("/anthropic/v1/messages/count_tokens", "free"),
        ("/v1/messages/batches", "unmetered"),
    ],
)
def test_claudes_paths(path: str, kind: str) -> None:
    """As Anthropic's, whether the resource's own part is in the base URI or in the path."""
    assert CLAUDE.endpoint("POST", path).kind == kind


ASKS: dict[str, dict[str, Any]] = {
    "chat.completions": {"messages": []},
    "completions": {"prompt": "a"},
    "embeddings": {"input": "a"},
    "responses": {"input": "a"},
    "images.generations": {"prompt": "a"},
    "audio.speech": {"input": "a", "voice": "alloy"},
}


@pytest.mark.parametrize("name", ASKS)
def test_who_names_the_model(name: str) -> None:
    """The request, else the deployment in the path; where there is none it must, as with OpenAI."""
    for model, expected in (({}, "dep"), ({"model": None}, "dep"), ({"model": "gpt-4o"}, "gpt-4o")):
        body = json.dumps(ASKS[name] | model).encode()
        assert OPENAI.ask(metered(name, "dep"), body).model == expected
    body = json.dumps(ASKS[name]).encode()
    if name == "images.generations":  # for which OpenAI has a default
        assert OPENAI.ask(metered(name), body).model == ""
        return
    with pytest.raises(InvalidRequest) as caught:
        OPENAI.ask(metered(name), body)
    assert caught.value.field == "model"


def test_a_form_may_leave_the_model_out_too() -> None:
    """A transcription at a deployment, sent as a form."""
    head = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    body = head + b"RIFF\r\n--b--\r\n"
    kind = b"multipart/form-data; boundary=b"
    assert OPENAI.ask(metered("audio.transcriptions", "whisper"), body, kind).model == "whisper"


@pytest.mark.parametrize(
    ("query", "knows"),
    [
        (b"", True),
        (b"api-version=preview", True),
        (b"api-version=latest", True),
        (b"api-version=2024-10-21", True),
        (b"api-version=2024-09-01-preview", True),
        (b"a=b&api-version=2025-04-01-preview", True),
        (b"api-version=2024-08-01-preview", False),
        (b"api-version=2024-06-01", False),
        (b"api-version=2023-05-15", False),
        (b"api%2Dversion=2023%2D05-15", False),
    ],
)
@pytest.mark.parametrize("name", ["chat.completions", "completions"])
def test_usage_is_asked_for_where_the_version_knows_how(
    name: str,
    query: bytes,
    knows: bool,  # noqa: FBT001
) -> None:
    """Azure refuses members that an `api-version` does not know: no call fails because of us."""
    path = f"/openai/deployments/dep/{name.replace('.', '/')}"
    endpoint = OPENAI.endpoint("POST", path, query)
    assert endpoint.streams_usage is knows
    body = json.dumps(ASKS[name] | {"stream": True}).encode()
    sent = OPENAI.upstream_body(OPENAI.ask(endpoint, body), body)
    if not knows:
        assert sent == body
        return
    assert json.loads(sent)["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("member", ["data_sources", "dataSources"])
def test_own_data_is_not_asked_for_usage(member: str) -> None:
    """A chat over one's own data refuses `stream_options` in every version."""
    body = json.dumps(ASKS["chat.completions"] | {"stream": True, member: []}).encode()
    ask = OPENAI.ask(metered("chat.completions", "dep"), body)
    assert OPENAI.upstream_body(ask, body) == body


def test_what_the_caller_asked_for_stays() -> None:
    """A caller who asks for usage in a version that refuses it gets Azure's answer to that."""
    old = metered("chat.completions", "dep", streams_usage=False)
    asked: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    body = json.dumps(ASKS["chat.completions"] | asked).encode()
    ask = OPENAI.ask(old, body)
    assert ask.include_usage
    assert OPENAI.upstream_body(ask, body) == body


def test_a_member_sent_twice_is_sent_once_all_the_same() -> None:
    """What is priced is what is sent, in old versions too."""
    body = b'{"messages":[],"stream":true,"n":1,"n":2}'
    ask = OPENAI.ask(metered("chat.completions", "dep", streams_usage=False), body)
    assert OPENAI.upstream_body(ask, body) == b'{"messages":[],"stream":true,"n":2}'


def event(**members: Any) -> bytes:
    """A chunk of Azure's."""
    chunk = {"id": "chatcmpl-1", "model": "gpt-4o-2024-08-06", "choices": []} | members
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def choice(**members: Any) -> dict[str, Any]:
    """A chunk's only choice."""
    return {"choices": [{"index": 0, "finish_reason": None, "delta": {}} | members]}


FILTER = event(
    id="", model="", object="", created=0, prompt_filter_results=[{"prompt_index": 0}]
)  # fmt: skip
OFFSETS = event(**choice(content_filter_offsets={"check_offset": 1}, delta=None))
STREAM = [
    FILTER,
    event(**choice(delta={"role": "assistant", "content": "Hi"})),
    event(**choice(finish_reason="stop")),
    OFFSETS,
    event(usage={"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}),
    b"data: [DONE]\n\n",
]
USAGE = Usage(
    model="gpt-4o-2024-08-06",
    provider_id="chatcmpl-1",
    counts={"input": 9, "output": 2},
    finished=True,
)


@pytest.mark.parametrize("asked", [False, True])
def test_the_filters_chunk_is_no_usage_chunk(asked: bool) -> None:  # noqa: FBT001
    """Azure's first chunk has no choices either: it passes at once, at whatever byte it is cut."""
    options = {"stream_options": {"include_usage": True}} if asked else {}
    body = json.dumps({"messages": [], "stream": True} | options).encode()
    endpoint = metered("chat.completions", "dep")
    whole = b"".join(STREAM)
    for cut in cuts(whole, 2_000):
        tap = OPENAI.tap(endpoint, OPENAI.ask(endpoint, body))
        out = tap.feed(whole[:cut])
        if cut >= len(FILTER):
            assert out.startswith(FILTER)
            assert not tap.ready or cut > len(whole) - len(STREAM[-1]) - len(STREAM[-2])
        out += tap.feed(whole[cut:]) + tap.finish()
        assert tap.usage() == USAGE
        out += tap.splice(b'{"request_id":"r"}')
        assert out.replace(b',"xproxy_result":{"request_id":"r"}', b"", 1) == b"".join(
            it for it in STREAM if asked or it is not STREAM[4]
        )
        assert [it for it in objects(out) if "xproxy_result" in it]


def test_an_old_versions_stream_is_estimated() -> None:
    """It states no usage: what was delivered is kept to be counted."""
    body = json.dumps({"messages": [], "stream": True}).encode()
    old = metered("chat.completions", "dep", streams_usage=False)
    tap = OPENAI.tap(old, OPENAI.ask(old, body))
    tap.feed(b"".join([*STREAM[:4], STREAM[5]]))
    assert (tap.usage().counts, tap.usage().output_text) == (None, "Hi")


def test_categories() -> None:
    """Both are Azure's in the price book; each has Pay-i's category."""
    assert [(it.name, it.category) for it in (OPENAI, CLAUDE)] == [
        ("azure", "system.azureopenai"),
        ("azure", "system.azure"),
    ]
    for category in ("system.azureopenai", "system.azure"):
        assert provider_of(category, "openai") == "azure"
    assert CLAUDE.default_headers([]) == [(b"anthropic-version", b"2023-06-01")]
    assert OPENAI.default_headers([]) == []
