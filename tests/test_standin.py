"""The stand-in answers as the providers do, misbehaves as told, and its books are right."""

from __future__ import annotations

import ast
import contextlib
import gzip
import hashlib
import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.standin import Standin, fingerprint, recordings, total_pico
from tests.standin.faults import LEGAL, MALFORMED, NOT_HTTP, WRONG_USAGE
from tests.standin.fixtures import standin, standin_process

__all__ = ["standin", "standin_process"]
# The models of the examples are old enough for the SDK to say so.
pytestmark = pytest.mark.filterwarnings("ignore:The model:DeprecationWarning")
ASK: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}
CLAUDE: dict[str, Any] = {"model": "claude-sonnet-4-5", "max_tokens": 50} | {
    "messages": [{"role": "user", "content": "Hello"}]
}
RESPOND: dict[str, Any] = {"model": "gpt-4.1-mini", "input": "Hello"}


@pytest.fixture
def openai_client(standin: Standin) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="sk-one", base_url=standin.openai_url, max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic_client(standin: Standin) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(api_key="sk-two", base_url=standin.url, max_retries=0) as client:
        yield client


def post(standin: Standin, body: dict[str, Any], **control: Any) -> httpx.Response:
    path = "/v1/messages" if "claude" in body["model"] else "/v1/chat/completions"
    path = "/v1/responses" if "input" in body else path
    headers = {"x-standin": json.dumps(control)}
    return httpx.post(standin.url + path, json=body, headers=headers, timeout=10, trust_env=False)


def data_events(text: str) -> list[dict[str, Any]]:
    lines = (line for line in text.splitlines() if line.startswith("data: {"))
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_it_is_an_independent_witness() -> None:
    """Nothing under tests/standin imports the product."""
    for path in Path(__file__).parent.joinpath("standin").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            tops = {name.partition(".")[0] for name in names}
            assert not tops & {"metering", "pricing", "sql"}, path.name


def test_openai_json(standin: Standin, openai_client: openai.OpenAI) -> None:
    """The openai SDK reads an answer; the books hold its id, usage, cost and credential."""
    answer = openai_client.chat.completions.create(**ASK)
    [entry] = standin.ledger()
    assert answer.id.startswith("chatcmpl-")
    assert entry.id == answer.id
    assert answer.model == entry.model == "gpt-4o-2024-08-06"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert entry.usage is not None
    assert answer.usage.prompt_tokens == entry.usage["prompt_tokens"]
    cost = answer.usage.prompt_tokens * 2_500_000 + answer.usage.completion_tokens * 10_000_000
    assert entry.cost_pico == cost
    assert entry.credential is not None
    assert entry.credential.sha256 == fingerprint("sk-one")
    assert "sk-one" not in standin.ledger_path.read_text()
    assert entry.complete
    assert entry.client
    assert entry.status == 200
    assert not entry.leaks


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("choices", [1, 3])
def test_openai_stream(
    standin: Standin, openai_client: openai.OpenAI, *, asked: bool, choices: int
) -> None:
    """Role, text, finish reason; a usage chunk with no choices only when it was asked for."""
    extra: dict[str, Any] = {"stream_options": {"include_usage": True}} if asked else {}
    chunks = list(openai_client.chat.completions.create(**ASK, **extra, stream=True, n=choices))
    assert chunks[0].choices[0].delta.role == "assistant"
    finishes = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert finishes[-choices:] == ["stop"] * choices
    assert not any(finishes[:-choices])
    usages = [chunk.usage for chunk in chunks]
    assert [bool(u) for u in usages] == [False] * (len(chunks) - 1) + [asked]
    assert [not c.choices for c in chunks] == [False] * (len(chunks) - 1) + [asked]
    [entry] = standin.ledger()
    assert entry.stream
    assert entry.complete
    assert entry.id == chunks[0].id
    if asked and usages[-1]:
        assert entry.usage is not None
        assert usages[-1].completion_tokens == entry.usage["completion_tokens"]


def test_anthropic_json(standin: Standin, anthropic_client: anthropic.Anthropic) -> None:
    """The anthropic SDK reads an answer, and the id of its request."""
    message = anthropic_client.messages.create(**CLAUDE)
    [entry] = standin.ledger()
    assert message.id == entry.id
    assert message.id.startswith("msg_")
    assert message.model == "claude-sonnet-4-5-20250929"
    assert message._request_id
    assert message._request_id.startswith("req_")
    assert message.content[0].type == "text"
    usage = message.usage
    assert entry.cost_pico == usage.input_tokens * 3_000_000 + usage.output_tokens * 15_000_000


def test_anthropic_stream(standin: Standin, anthropic_client: anthropic.Anthropic) -> None:
    """The events come in the real order, and the usage of message_delta is cumulative."""
    with anthropic_client.messages.stream(**CLAUDE) as stream:
        message = stream.get_final_message()
    [entry] = standin.ledger()
    assert entry.usage is not None
    assert message.usage.output_tokens == entry.usage["output_tokens"]
    events = data_events(post(standin, CLAUDE | {"stream": True}, chunks=2).text)
    assert [event["type"] for event in events] == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[0]["message"]["usage"]["output_tokens"] == 1
    assert events[-2]["usage"]["output_tokens"] == entry.usage["output_tokens"]


def test_responses(standin: Standin, openai_client: openai.OpenAI) -> None:
    """The openai SDK reads an answer and its usage, which is what is billed."""
    answer = openai_client.responses.create(**RESPOND)
    [entry] = standin.ledger()
    assert entry.id == answer.id
    assert answer.id.startswith("resp_")
    assert answer.model == entry.model == "gpt-4.1-mini-2025-04-14"
    assert answer.output_text
    assert answer.status == "completed"
    assert answer.usage is not None
    assert entry.cost_pico == answer.usage.input_tokens * 400_000 + answer.usage.output_tokens * (
        1_600_000
    )


@pytest.mark.parametrize(("cap", "end"), [(None, "completed"), (12, "incomplete")])
def test_responses_stream(
    standin: Standin, openai_client: openai.OpenAI, cap: int | None, end: str
) -> None:
    """The events come in the real order; the last one has the whole response and its usage."""
    options: dict[str, Any] = {} if cap is None else {"max_output_tokens": cap}
    events = list(openai_client.responses.create(**RESPOND, **options, stream=True))
    kinds = [event.type.removeprefix("response.") for event in events]
    texts = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert set(kinds[4:-4]) == {"output_text.delta"}
    assert kinds[-4:] == ["output_text.done", "content_part.done", "output_item.done", end]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    [entry] = standin.ledger()
    last: Any = events[-1]
    assert last.response.output_text == "".join(texts)
    assert entry.stream
    assert entry.complete
    assert entry.usage is not None
    assert last.response.usage.output_tokens == entry.usage["output_tokens"]
    assert cap is None or entry.usage["output_tokens"] == cap


def test_other_endpoints(
    standin: Standin, openai_client: openai.OpenAI, anthropic_client: anthropic.Anthropic
) -> None:
    """Models, embeddings and token counts have their real shapes; any other path is echoed."""
    assert "gpt-4o" in {model.id for model in openai_client.models.list()}
    assert "claude-sonnet-4-5" in {model.id for model in anthropic_client.models.list()}
    made = openai_client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    assert len(made.data) == 2
    counted = anthropic_client.messages.count_tokens(
        model="claude-sonnet-4-5", messages=CLAUDE["messages"]
    )
    assert counted.input_tokens > 0
    headers = {"x-api-key": "sk-secret", "x-mine": "1"}
    url = standin.url + "/v1/files%2Fx/y?a=b&c"
    echo = httpx.request("PATCH", url, content=b"abc", headers=headers, trust_env=False).json()
    assert echo["method"] == "PATCH"
    assert (echo["path"], echo["query"]) == ("/v1/files%2Fx/y", "a=b&c")
    assert echo["headers"]["x-mine"] == "1"
    assert echo["headers"]["x-api-key"] == fingerprint("sk-secret")
    assert [entry.cost_pico for entry in standin.ledger()][3:] == [0, 0]


def test_control_has_four_places(standin: Standin) -> None:
    """The script is overruled by the query, the query by the header, that by the message."""
    standin.script({"text": "script", "tag": "t"}, then=[{"model": "once"}])
    said = {"role": "user", "content": 'Hi [[standin {"text": "message"}]] there'}
    plain, marked = ASK["messages"], [{"role": "system", "content": "x"}, said]
    query, header = '?standin={"text":"query"}', {"x-standin": '{"text":"header"}'}
    rows: list[tuple[str, dict[str, str], Any, str]] = [
        ("", {}, plain, "script"),
        (query, {}, plain, "query"),
        (query, header, plain, "header"),
        (query, header, marked, "message"),
    ]
    for suffix, headers, messages, text in rows:
        url = standin.openai_url + "/chat/completions" + suffix
        body = ASK | {"messages": messages}
        answer = httpx.post(url, json=body, headers=headers, trust_env=False).json()
        assert answer["choices"][0]["message"]["content"] == text
    models = [entry.model for entry in standin.ledger("t")]
    assert models == ["once"] + ["gpt-4o-2024-08-06"] * 3
    asked = RESPOND | {"input": [said]}
    given = httpx.post(standin.openai_url + "/responses", json=asked, trust_env=False).json()
    assert given["output"][0]["content"][0]["text"] == "message"


def test_control_is_strict(standin: Standin) -> None:
    """What cannot be understood is answered with 400 and bills nothing."""
    for control in ({"delay": 5}, {"recording": "openai:999999"}, {"malformed": "nope"}):
        answer = post(standin, ASK, **control)
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "standin_control"
    assert total_pico(standin.ledger()) == 0


def test_errors_have_the_providers_shape(
    standin: Standin, openai_client: openai.OpenAI, anthropic_client: anthropic.Anthropic
) -> None:
    """A status makes the provider's own error, which costs nothing; `auth` refuses other keys."""
    standin.script(then=[{"status": 429}, {"status": 529}])
    with pytest.raises(openai.RateLimitError) as limited:
        openai_client.chat.completions.create(**ASK)
    assert limited.value.response.headers["retry-after"] == "1"
    with pytest.raises(anthropic.APIStatusError, match="overloaded_error"):
        anthropic_client.messages.create(**CLAUDE)
    standin.script(auth=["sk-two"])
    with pytest.raises(openai.AuthenticationError):
        openai_client.chat.completions.create(**ASK)
    assert anthropic_client.messages.create(**CLAUDE).id
    statuses = [(entry.status, bool(entry.cost_pico)) for entry in standin.ledger()]
    assert statuses == [(429, False), (529, False), (401, False), (200, True)]


def test_an_unknown_model_has_no_price(standin: Standin) -> None:
    """It answers all the same; the books say that they do not know."""
    assert post(standin, ASK | {"model": "gpt-none"}).status_code == 200
    assert post(standin, ASK, service_tier="priority", model="gpt-4").status_code == 200
    assert [entry.cost_pico for entry in standin.ledger()] == [None, None]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("body", [ASK, CLAUDE, RESPOND], ids=["openai", "anthropic", "responses"])
@pytest.mark.parametrize("kind", list(WRONG_USAGE))
def test_wrong_usage(standin: Standin, kind: str, body: dict[str, Any], *, stream: bool) -> None:
    """What is reported is wrong, what is billed is right."""
    options = {"stream_options": {"include_usage": True}} if body is ASK else {}
    body = body | {"stream": stream} | (options if stream else {})
    text = post(standin, body, wrong_usage=kind).text
    [entry] = standin.ledger()
    assert entry.usage is not None
    assert (entry.cost_pico or 0) > 0
    honest = json.dumps(entry.usage, separators=(",", ":"))
    assert honest not in text


@pytest.mark.parametrize("body", [ASK, CLAUDE, RESPOND], ids=["openai", "anthropic", "responses"])
@pytest.mark.parametrize("kind", list(MALFORMED))
def test_malformed(standin: Standin, kind: str, body: dict[str, Any]) -> None:
    """The stream is not what it was, yet its HTTP body ends properly, and it is billed in full."""
    body = body | {"stream": True}
    good = post(standin, body).content
    bad = post(standin, body, malformed=kind)
    assert bad.status_code == 200
    assert bad.content != good
    [first, second] = standin.ledger()
    assert first.cost_pico == second.cost_pico
    assert second.complete
    if kind in LEGAL:
        lines = bad.content.decode("utf-8-sig").splitlines()
        texts = [line[5:] for line in lines if line.startswith("data:")]
        ends = ("finish_reason", "stop_reason", "completed_at", '"completed"')
        assert any(end in text for end in ends for text in texts)


def test_pieces_and_encodings(standin: Standin) -> None:
    """Cutting a body into pieces changes none of its bytes; neither does compressing it."""
    body = CLAUDE | {"stream": True}
    for control in ({"split": 1}, {"split": 7}, {"split_at": [5, 3, 900]}):
        text = post(standin, body, **control).text
        assert data_events(text)[-1] == {"type": "message_stop"}
    zipped = post(standin, ASK, content_encoding="gzip", text="abc")
    assert zipped.json()["choices"][0]["message"]["content"] == "abc"
    claimed = {"x-standin": '{"content_encoding": "gzip", "split": 50}'}
    url = standin.openai_url + "/chat/completions"
    with httpx.stream("POST", url, json=ASK, headers=claimed, trust_env=False) as response:
        assert gzip.decompress(b"".join(response.iter_raw())).startswith(b'{"id":"chatcmpl-')
    plain = post(standin, ASK, body_bytes=100_000, content_type="audio/mpeg")
    assert (len(plain.content), plain.headers["content-type"]) == (100_000, "audio/mpeg")


@pytest.mark.parametrize("kind", list(NOT_HTTP))
def test_what_is_no_http(standin: Standin, kind: str) -> None:
    """Bytes that are no answer are all that comes, and the books say that there was none."""
    with socket.create_connection(("127.0.0.1", standin.port)) as connection:
        body, told = json.dumps(ASK), json.dumps({"instead": kind})
        connection.sendall(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-standin: {told}\r\n"
            f"content-length: {len(body)}\r\n\r\n{body}".encode()
        )
        with connection.makefile("rb") as answer:
            assert answer.read() == NOT_HTTP[kind]
    [entry] = standin.ledger()
    assert (entry.status, entry.complete) == (None, False)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("off", [-100, 500])
def test_a_wrong_length(standin: Standin, off: int, *, stream: bool) -> None:
    """More bytes than were announced, or less: the client gets what it can, and sees that."""
    told, got = {"x-standin": json.dumps({"length_off": off})}, b""
    url, ask = standin.openai_url + "/chat/completions", ASK | {"stream": stream}
    with (
        httpx.stream("POST", url, json=ask, headers=told, trust_env=False) as response,
        contextlib.suppress(httpx.TransportError),
    ):
        for piece in response.iter_raw():
            got += piece
    standin.wait_idle()
    [entry] = standin.ledger()
    assert len(got) == entry.body_sent == int(response.headers["content-length"]) - max(0, off)
    assert hashlib.sha256(got).hexdigest() == entry.answer_sha256
    assert entry.complete == (off < 0)


@pytest.mark.parametrize("encoding", [None, "gzip", "gzip, gzip"])
@pytest.mark.parametrize("body", [ASK, ASK | {"stream": True}, RESPOND], ids=str)
def test_filler(standin: Standin, body: dict[str, Any], encoding: str | None) -> None:
    """An answer may be as large as one likes, and says no more; the books know its plain bytes."""
    told = {"filler_bytes": 1_000_000, "content_encoding": encoding}
    answer = post(standin, body, **told)
    [entry] = standin.ledger()
    assert len(answer.content) > 1_000_000
    assert hashlib.sha256(answer.content).hexdigest() == entry.answer_sha256
    assert (entry.body_sent < 100_000) == (encoding is not None)
    if body.get("stream"):
        assert data_events(answer.text)
    else:
        assert answer.json()["model"] == entry.model


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("member", ["cut_at_byte", "reset_at_byte"])
@pytest.mark.parametrize("offset", [0, 1, 100])
def test_broken_off(standin: Standin, member: str, offset: int, *, stream: bool) -> None:
    """The connection ends at the very byte; at 0 there is no answer at all."""
    got, error = b"", None
    told = {"x-standin": json.dumps({member: offset})}
    url, ask = standin.openai_url + "/chat/completions", ASK | {"stream": stream}
    try:
        with httpx.stream("POST", url, json=ask, headers=told, trust_env=False) as response:
            for piece in response.iter_raw():
                got += piece
    except httpx.TransportError as failure:
        error = failure
    assert len(got) == offset
    assert error is not None
    standin.wait_idle()
    [entry] = standin.ledger()
    assert not entry.complete
    assert entry.body_sent == offset
    assert entry.status == (200 if offset else None)
    assert (entry.usage is None) == (stream and offset == 0)


@pytest.mark.parametrize(
    ("short_by", "stated"), [(0, True), (1, True), (14, True), (15, False), (900, False)]
)
def test_what_was_stated_is_billed(standin: Standin, short_by: int, *, stated: bool) -> None:
    """Broken off after it has said what was used, that is what it bills; before, a part of it."""
    ask = ASK | {"stream": True, "stream_options": {"include_usage": True}}
    url = standin.openai_url + "/chat/completions"

    def stream(**told: int) -> bytes:
        got = b""
        with contextlib.suppress(httpx.TransportError):
            headers = {"x-standin": json.dumps({"text": "word " * 40} | told)}
            with httpx.stream("POST", url, json=ask, headers=headers, trust_env=False) as response:
                for piece in response.iter_raw():
                    got += piece
        standin.wait_idle()
        return got

    whole = stream()
    assert whole.endswith(b"data: [DONE]\n\n")
    stream(**({"cut_at_byte": len(whole) - short_by} if short_by else {}))
    first, second = [entry.usage["completion_tokens"] for entry in standin.ledger() if entry.usage]
    assert second == first if stated else second < first


def test_a_client_that_leaves(standin: Standin) -> None:
    """The books say that it left, and charge what it was given of a stream."""
    told = {"x-standin": json.dumps({"chunk_delay_ms": 30, "chunks": 20, "tag": "left"})}
    usage = {"prompt_tokens": 10, "completion_tokens": 1000}
    told["x-standin"] = told["x-standin"].replace("{", f'{{"usage": {json.dumps(usage)}, ', 1)
    ask = ASK | {"stream": True}
    url = standin.openai_url + "/chat/completions"
    with httpx.stream("POST", url, json=ask, headers=told, trust_env=False) as response:
        next(response.iter_raw())
    standin.wait_idle()
    [entry] = standin.ledger("left")
    assert not entry.client
    assert not entry.complete
    assert entry.usage is not None
    assert entry.usage["prompt_tokens"] == 10
    assert 0 < entry.usage["completion_tokens"] < 1000


@pytest.mark.parametrize(("hang", "status"), [(True, None), (2, 200)])
def test_hang(standin: Standin, *, hang: bool | int, status: int | None) -> None:
    """It falls silent at once or after some pieces, until the client leaves."""
    with socket.create_connection(("127.0.0.1", standin.port)) as connection:
        body = json.dumps(ASK | {"stream": True})
        told = json.dumps({"hang": hang})
        connection.sendall(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-standin: {told}\r\n"
            f"content-length: {len(body)}\r\n\r\n{body}".encode()
        )
        deadline = time.monotonic() + 5
        while not standin.stats()["in_flight"] and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert standin.ledger() == []
    standin.wait_idle()
    [entry] = standin.ledger()
    assert entry.status == status
    assert not entry.client
    assert not entry.complete
    assert (entry.cost_pico == 0) == (status is None)


def test_stats(standin: Standin) -> None:
    """How many calls there were at the same time is known, and a reset forgets."""
    connections = [http.client.HTTPConnection("127.0.0.1", standin.port) for _ in range(5)]
    for connection in connections:
        told = {"x-standin": '{"delay_ms": 150}'}
        connection.request("POST", "/v1/chat/completions", json.dumps(ASK), told)
    for connection in connections:
        assert connection.getresponse().status == 200
        connection.close()
    stats = standin.stats()
    assert (stats["calls"], stats["in_flight_max"], stats["in_flight"]) == (5, 5, 0)
    assert len(standin.admin("GET", "/_ledger")) == 5
    standin.reset()
    assert standin.stats()["calls"] == 0
    assert standin.ledger() == []


def test_leaks_are_seen(standin: Standin) -> None:
    """A key of the product's own, or one of its headers, must not come here unnoticed."""
    headers = {"authorization": "Bearer sk-xproxy-app-x", "xProxy-User-ID": "u"}
    httpx.get(standin.openai_url + "/models", headers=headers, trust_env=False)
    assert standin.ledger()[0].leaks == ["xproxy-user-id", "authorization"]


RECORDED = [*recordings.load("openai"), *recordings.load("anthropic")]


@pytest.mark.skipif(not RECORDED, reason="no recordings: set XPROXY_RECORDINGS to their folder")
def test_recordings_come_back_byte_for_byte(standin: Standin) -> None:
    """Status, content type and body, whole or in pieces; the id and the usage are in the books."""
    with httpx.Client(trust_env=False) as client:
        for number, recording in enumerate(RECORDED):
            told = {"x-standin-recording": recording.name}
            if recording.streamed:
                told["x-standin"] = json.dumps({"split": 1 + number % 50})
            answer = client.post(standin.url + recording.path, json={}, headers=told)
            assert answer.status_code == recording.status
            assert answer.headers["content-type"] == recording.content_type
            assert answer.content == recording.body
    calls = ("/v1/chat/completions", "/v1/messages")
    metered = [e for e in standin.ledger() if e.path in calls and e.status == 200]
    assert metered
    assert all(e.cost_pico and e.usage for e in metered)
    assert all(e.id.startswith(("chatcmpl-", "msg_")) for e in metered)


@pytest.mark.skipif(not RECORDED, reason="no recordings: set XPROXY_RECORDINGS to their folder")
def test_replay_in_sequence(standin: Standin, openai_client: openai.OpenAI) -> None:
    """Call N is answered with the Nth recording that was asked for."""
    chats = [r for r in recordings.load("openai") if r.path == "/v1/chat/completions"]
    chosen = [r for r in chats if r.status == 200 and not r.streamed][:3]
    standin.replay(r.name for r in chosen)
    got = [openai_client.chat.completions.create(**ASK).id for _ in chosen]
    assert got == [json.loads(r.body)["id"] for r in chosen]


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    """When the process that made it is gone, so is it; its books stay."""
    standin = Standin(tmp_path / "ledger.jsonl").start()
    assert standin._process is not None
    assert standin._process.stdin is not None
    post(standin, ASK)
    standin._process.stdin.close()
    assert standin._process.wait(5) == 0
    assert len(standin.ledger()) == 1
    standin.stop()
