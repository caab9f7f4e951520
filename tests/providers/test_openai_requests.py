"""OpenAI's requests: endpoints, what is refused, what goes upstream, what is asked."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.errors import InvalidRequest
from tests.providers.replay import setting

OPENAI, CHAT, _ = setting("openai")

ENDPOINTS = [
    # method  path                                 name                kind
    ("POST", "/v1/chat/completions", "chat.completions", "metered"),
    ("POST", "/v1/chat/completions/", "chat.completions", "metered"),
    ("POST", "/v1//chat/completions", "chat.completions", "metered"),
    ("POST", "/v1/chat%2Fcompletions", "chat.completions", "metered"),
    ("POST", "/V1/Chat/%43ompletions", "chat.completions", "metered"),
    ("PUT", "/v1/chat/completions", "other", "unmetered"),
    ("GET", "/v1/chat/completions", "other", "free"),
    ("GET", "/v1/models", "other", "free"),
    ("HEAD", "/v1/models", "other", "free"),
    ("DELETE", "/v1/files/a", "other", "free"),
    ("OPTIONS", "/v1/models", "other", "free"),
    ("POST", "/v1/moderations", "other", "free"),
    ("POST", "/v1/files", "other", "free"),
    ("POST", "/v1/uploads/u/parts", "other", "free"),
    ("POST", "/v1/filesystem", "other", "unmetered"),
    ("POST", "/v1/responses/input_tokens", "other", "free"),
    ("POST", "/v1/responses", "responses", "metered"),
    ("POST", "/v1/Responses/compact/", "responses.compact", "metered"),
    ("POST", "/v1/responses/resp_1/cancel", "responses", "free"),
    ("POST", "/v1/responses/resp_1", "other", "unmetered"),
    ("GET", "/v1/responses/resp_1", "responses", "free"),
    ("POST", "/v1/embeddings", "embeddings", "metered"),
    ("POST", "/v1/completions", "completions", "metered"),
    ("POST", "/v1/chat/completions/chatcmpl-1", "other", "free"),
    ("POST", "/v1/conversations/c/items", "other", "free"),
    ("POST", "/v1/vector_stores/v/search", "other", "free"),
    ("POST", "/v1/threads", "other", "free"),
    ("POST", "/v1/threads/thread_1", "other", "free"),
    ("POST", "/v1/threads/thread_1/messages", "other", "free"),
    ("POST", "/v1/threads/runs", "other", "unmetered"),
    ("POST", "/v1/threads/thread_1/runs", "other", "unmetered"),
    ("POST", "/v1/threads/thread_1/runs/run_1/submit_tool_outputs", "other", "unmetered"),
    ("POST", "/v1/fine_tuning/jobs", "other", "unmetered"),
    ("POST", "/v1/fine_tuning/jobs/ftjob-1/cancel", "other", "free"),
    ("POST", "/v1/batches/batch_1/cancel", "other", "free"),
    ("POST", "/v1/containers", "containers", "metered"),
    ("POST", "/v1/batches", "other", "unmetered"),
    ("PATCH", "/v1/files", "other", "unmetered"),
    ("POST", "/", "other", "unmetered"),
]


@pytest.mark.parametrize(("method", "path", "name", "kind"), ENDPOINTS)
def test_endpoints(method: str, path: str, name: str, kind: str) -> None:
    """What costs is metered however its path is spelled; reading and uploading is free."""
    endpoint = OPENAI.endpoint(method, path)
    assert (endpoint.name, endpoint.kind) == (name, kind)
    assert endpoint.restates is (kind == "free" and name == "responses")


STREAM_OPTIONS = b'{"model":"m","stream":true,"stream_options":%s}'
BAD = [
    # body                                               code                      field
    (b"", "invalid_json", None),
    (b"{", "invalid_json", None),
    (b"[]", "invalid_json", None),
    (b'{"model":"m"}x', "invalid_json", None),
    (b'{"model":"m","a":NaN}', "invalid_json", None),
    (b'{"model":"m","a":"\\ud800"}', "invalid_json", None),
    (b'{"\xff":1}', "invalid_json", None),
    (b'{"model":"m","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json", None),
    (b"{}", "required_field_missing", "model"),
    (b'{"model":null}', "required_field_missing", "model"),
    (b'{"model":""}', "required_field_missing", "model"),
    (b'{"model":1}', "invalid_request_field", "model"),
    (b'{"model":"\xff"}', "invalid_request_field", "model"),
    (b'{"model":"a\\nb"}', "invalid_request_field", "model"),
    (b'{"model":"%s"}' % (b"m" * 257), "invalid_request_field", "model"),
    (b'{"model":"m","stream":1}', "invalid_request_field", "stream"),
    (b'{"model":"m","stream":"true"}', "invalid_request_field", "stream"),
    (b'{"model":"m","max_tokens":1.5}', "invalid_request_field", "max_tokens"),
    (b'{"model":"m","max_tokens":true}', "invalid_request_field", "max_tokens"),
    (b'{"model":"m","max_tokens":-1}', "invalid_request_field", "max_tokens"),
    (b'{"model":"m","max_completion_tokens":""}', "invalid_request_field", "max_completion_tokens"),
    (b'{"model":"m","max_tokens":1000000001}', "invalid_request_field", "max_tokens"),
    (b'{"model":"m","n":0}', "invalid_request_field", "n"),
    (b'{"model":"m","n":[]}', "invalid_request_field", "n"),
    (STREAM_OPTIONS % b"[]", "invalid_request_field", "stream_options"),
    (STREAM_OPTIONS % b'{"include_usage":1}', "invalid_request_field", "stream_options"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "code", "field"), BAD)
def test_bad_requests(body: bytes, code: str, field: str | None) -> None:
    """A request that cannot be priced is the caller's fault, and the member at fault is named."""
    with pytest.raises(InvalidRequest) as caught:
        OPENAI.ask(CHAT, body)

    assert (caught.value.code, caught.value.field) == (code, field)
    assert field is None or f"'{field}'" in caught.value.message


STREAM = '{"model":"m","stream":true%s}'
OPTIONS = STREAM % ',"stream_options":%s'
ALWAYS = OPTIONS % '{"include_usage":true}'
UPSTREAM = [
    # the caller's body                             what goes upstream; None: the same bytes
    ('{"model":"m"}', None),
    ('{ "model" : "m" ,\n "n" : 2 }\n', None),
    ('{"mod\\u0065l":"m"}', '{"model":"m"}'),
    ('{"model":"a","model":"b"}', '{"model":"b"}'),
    ('{"model": "a", "n":1, "model": "b"}', '{"model":"b","n":1}'),
    ('{"model":"m","stream":true,"stream":false}', '{"model":"m","stream":false}'),
    ('{"model":"m" , "x":{"model":"y","model":"z"}}', None),
    ('{"model":"m","stream":false,"stream_options":{"include_usage":false}}', None),
    (STREAM % "", ALWAYS),
    (OPTIONS % "null", ALWAYS),
    (OPTIONS % "{}", ALWAYS),
    (ALWAYS, None),
    (OPTIONS % ' {"include_usage": true, "a":1}', None),
    (OPTIONS % '{"include_usage":false}', ALWAYS),
    (OPTIONS % '{"include_usage":false,"include_usage":true}', ALWAYS),
    (OPTIONS % '{"a": [1, 2]}', OPTIONS % '{"a":[1, 2],"include_usage":true}'),
    (STREAM % ',"x": [ { "a" : 1e2 } ]', ALWAYS.replace("true,", 'true,"x":[ { "a" : 1e2 } ],', 1)),
]  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), UPSTREAM)
def test_what_goes_upstream(body: str, expected: str | None) -> None:
    """Usage is asked for on streams; of two members of one name only the priced one is sent."""
    sent = body.encode()
    ask = OPENAI.ask(CHAT, sent)
    upstream = OPENAI.upstream_body(ask, sent)

    assert upstream is sent if expected is None else upstream == expected.encode()
    assert ask.include_usage is ('"include_usage":true' in body.replace(": ", ":") and ask.stream)


@given(
    st.lists(
        st.tuples(st.sampled_from(["n", "é", 'q"', "x"]), st.integers(1, 99))
        | st.tuples(st.just("model"), st.sampled_from(["a", "b"]))
    ),
    st.sampled_from(["", " ", "\n\t"]),
)
def test_repeated_members(pairs: list[tuple[str, int | str]], space: str) -> None:
    """A body goes anew exactly if a name comes twice, and always means the same."""
    pairs = [*pairs, ("model", "m")]
    members = [
        space.join((json.dumps(name, ensure_ascii=False), ":", json.dumps(value)))
        for name, value in pairs
    ]
    body = (space + "{" + space + f"{space},{space}".join(members) + space + "}" + space).encode()
    upstream = OPENAI.upstream_body(OPENAI.ask(CHAT, body), body)

    assert json.loads(upstream) == json.loads(body)
    assert (upstream == body) is (len({name for name, _ in pairs}) == len(pairs))


def test_asks() -> None:
    """What cost depends on is read: caps, choices, tier, and all text but no images."""
    body = {
        "model": "gpt-4o",
        "max_tokens": 10,
        "max_completion_tokens": 30,
        "n": 3,
        "service_tier": "flex",
        "messages": [
            {"role": "system", "content": "one"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "two"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                ],
            },
            {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "three"}}]},
            {"role": "tool", "content": 5},
        ],
        "tools": [{"function": {"name": "four"}}],
        "response_format": {"type": "five"},
    }
    text = json.dumps(body).encode()
    ask = OPENAI.ask(CHAT, text)

    assert (ask.max_output_tokens, ask.choices, ask.service_tier) == (30, 3, "flex")
    assert ask.body_bytes == len(text)
    assert "\n".join(ask.texts).split("\n") == [
        *("one", "two", '[{"function": {"name": "three"}}]'),
        *('[{"function": {"name": "four"}}]', '{"type": "five"}'),
    ]


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ("null", ""),
        ("[]", ""),
        ('"hello"', '"hello"'),
        ('[{"content":"a","tool_calls":null}]', "a"),
        ('[{"content":[1]}]', "[1]"),
        ('[{"content":' + '[{"content":' * 4 + "[1]" + "}]" * 5, "[1]"),
        ('[{"content":"\xff"}]', '"\ufffd"'),
        ('[{"content":true}]', ""),
        ('["x"]', '["x"]'),
    ],
)
def test_odd_messages(messages: str, text: str) -> None:
    """Messages of a shape we do not know are the provider's to refuse; their JSON is counted."""
    body = b'{"model":"m","service_tier":5,"messages":' + messages.encode("latin-1") + b"}"
    ask = OPENAI.ask(CHAT, body)

    assert "\n".join(ask.texts) == text
    assert ask.service_tier is None


@pytest.mark.parametrize(
    ("tier", "kept"),
    [
        ('"priority"', "priority"),
        ('"' + "x" * 64 + '"', "x" * 64),
        ('"' + "x" * 65 + '"', None),
        ('"who said this?"', None),
        ('"a\\u0000"', None),
        ('"flex\\n"', None),
        ('""', None),
        ("null", None),
        ("[]", None),
    ],
)
def test_a_tier_is_a_word(tier: str, kept: str | None) -> None:
    """It is kept in rows, so it must not be a text; the provider refuses what is none."""
    body = '{"model":"m","messages":[],"service_tier":%s}' % tier  # noqa: UP031
    assert OPENAI.ask(CHAT, body.encode()).service_tier == kept
