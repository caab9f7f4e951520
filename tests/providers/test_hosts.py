"""Hosts that speak OpenAI's form: their names, where they are, and where they say usage."""

# ruff: noqa: E501 - tables of streams and URLs

from __future__ import annotations

import json
from typing import Any

import pytest

from metering.core.origins import Origin, Rules, operators, parse
from metering.core.routing import Azure
from metering.errors import InvalidRequest
from metering.providers import DIALECTS, hosts, provider_of
from metering.settings import Settings
from metering.surfaces.base import upstream_url
from pricing.load import load
from tests.providers.replay import RESULT, events, run, without_result

CHAT = "/v1/chat/completions"
OWN = ("openai", "anthropic", "azure.openai", "azure.anthropic")
NAMES = [host.name for host in hosts.HOSTS]
UNPRICED = {"lingyi", "ollama", "siliconflow"}
"""Hosts that the catalogue has no prices of: the rules for unpriced models apply."""
URLS = {
    "anyscale": "https://api.endpoints.anyscale.com/v1/chat/completions",
    "cerebras": "https://api.cerebras.ai/v1/chat/completions",
    "dashscope": "https://dashscope-intl.aliyuncs.com/compatible-mode/v1/chat/completions",
    "deepinfra": "https://api.deepinfra.com/v1/openai/chat/completions",
    "deepseek": "https://api.deepseek.com/v1/chat/completions",
    "fireworks-ai": "https://api.fireworks.ai/inference/v1/chat/completions",
    "groq": "https://api.groq.com/openai/v1/chat/completions",
    "hyperbolic": "https://api.hyperbolic.xyz/v1/chat/completions",
    "inference-net": "https://api.inference.net/v1/chat/completions",
    "lambda": "https://api.lambdalabs.com/v1/chat/completions",
    "lingyi": "https://api.lingyiwanwu.com/v1/chat/completions",
    "mistral-ai": "https://api.mistral.ai/v1/chat/completions",
    "moonshot": "https://api.moonshot.cn/v1/chat/completions",
    "nebius": "https://api.studio.nebius.ai/v1/chat/completions",
    "novita-ai": "https://api.novita.ai/v3/openai/v1/chat/completions",
    "nscale": "https://inference.api.nscale.com/v1/chat/completions",
    "openrouter": "https://openrouter.ai/api/v1/chat/completions",
    "perplexity-ai": "https://api.perplexity.ai/chat/completions",
    "sambanova": "https://api.sambanova.ai/v1/chat/completions",
    "siliconflow": "https://api.siliconflow.cn/v1/chat/completions",
    "together-ai": "https://api.together.xyz/v1/chat/completions",
    "x-ai": "https://api.x.ai/v1/chat/completions",
    "z-ai": "https://api.z.ai/api/paas/v4/chat/completions",
    "zhipu": "https://open.bigmodel.cn/api/paas/v4/chat/completions",
}
"""What Portkey's gateway calls for a chat completion, by its names."""


def test_the_names_that_callers_have() -> None:
    """Portkey's names and ours lead to a dialect; each dialect has one name that is shown."""
    assert list(DIALECTS) == [*OWN, *NAMES]
    for alias in (*URLS, "ollama", "openai", "anthropic", "azure-openai"):
        provider = hosts.dialect_of(alias)
        assert provider in DIALECTS
        assert hosts.name_of(provider) == alias
    for name in DIALECTS:
        assert hosts.dialect_of(name) == name
        assert hosts.dialect_of(hosts.name_of(name)) == name
    shown = (*URLS, "ollama", "openai", "anthropic", "azure-openai", "azure.anthropic")
    assert hosts.known() == tuple(sorted(shown))
    for name in ("", "bedrock", "vertex-ai", "cohere", "azure-ai", "Groq", "portkey"):
        assert hosts.dialect_of(name) is None


@pytest.mark.parametrize("name", NAMES)
def test_what_a_host_is_called_in_the_price_book(name: str) -> None:
    """A dialect's name is the catalogue's; its category leads back to it."""
    dialect = DIALECTS[name]
    assert (dialect.name, dialect.category) == (name, f"system.{name}")
    assert provider_of(dialect.category, "") == name
    priced = any(provider == name for provider, _ in load().models())
    assert priced is (name not in UNPRICED)


@pytest.mark.parametrize("alias", URLS)
def test_where_a_host_is(alias: str) -> None:
    """The public base URL, and the path there; nobody's rules but a list of hosts refuse it."""
    dialect = DIALECTS[hosts.dialect_of(alias) or ""]
    base = hosts.bases_of(Settings())[dialect.name]
    assert upstream_url(base, CHAT, versioned=dialect.versioned) == URLS[alias]
    origin = operators(base)
    assert origin is not None
    Rules().check(origin)
    with pytest.raises(InvalidRequest, match="XPROXY_PROVIDER_ORIGINS"):
        Rules(hosts=("eu.example.com",)).check(origin)


def test_whose_base_url_is_the_operators() -> None:
    """Settings say it of OpenAI and Anthropic; nobody has one of Azure's or of Ollama's."""
    settings = Settings(openai_base_url="https://o/v1", anthropic_base_url="https://a")
    bases = hosts.bases_of(settings)
    assert (bases["openai"], bases["anthropic"]) == ("https://o/v1", "https://a")
    assert bases.keys() & {"azure", "ollama"} == set()


@pytest.mark.parametrize("base", ["http://h:11434", "http://h:11434/v1"])
def test_a_base_url_with_or_without_its_version(base: str) -> None:
    """Where a host's own base URL has no version, either spelling of another leads there."""
    versioned = DIALECTS["ollama"].versioned
    assert upstream_url(base, CHAT, versioned=versioned) == "http://h:11434/v1/chat/completions"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_metered(name: str) -> None:
    """The forms that hosts took over; what else costs is theirs, and passes as such."""
    dialect = DIALECTS[name]
    for path in (CHAT, "/v1/completions", "/v1/embeddings", "/v1/responses"):
        assert dialect.endpoint("POST", path).kind == "metered"
    for path in ("/v1/images/generations", "/v1/audio/speech", "/v1/rerank", "/v1/moderations"):
        assert dialect.endpoint("POST", path).kind == "unmetered"
    assert dialect.endpoint("GET", "/v1/models").kind == "free"
    assert dialect.credential("k") == (b"authorization", b"Bearer k")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("asked", [None, {"include_usage": True}])
def test_who_is_asked_for_usage(name: str, asked: dict[str, bool] | None) -> None:
    """Streams are, but of hosts that refuse to be; what the caller itself asked for stays."""
    dialect = DIALECTS[name]
    members: dict[str, Any] = {"model": "m", "messages": [], "stream": True}
    if asked is not None:
        members["stream_options"] = asked
    body = json.dumps(members).encode()
    endpoint = dialect.endpoint("POST", CHAT)
    sent = json.loads(dialect.upstream_body(dialect.ask(endpoint, body), body))
    refuses = name in {"mistral", "perplexity", "zai", "zhipuai"}
    wanted = asked if refuses else {"include_usage": True}
    assert sent == members | ({} if wanted is None else {"stream_options": wanted})


def test_what_was_sent_twice_goes_once() -> None:
    """To a host that is not asked for usage too."""
    body = b'{"model":"m","model":"n","messages":[],"stream":true}'
    dialect = DIALECTS["mistral"]
    sent = dialect.upstream_body(dialect.ask(dialect.endpoint("POST", CHAT), body), body)
    assert sent == b'{"model":"n","messages":[],"stream":true}'


@pytest.mark.parametrize(
    ("name", "members", "field"),
    [
        ("groq", {}, ""),
        ("openrouter", {"plugins": [{"id": "web"}]}, "plugins"),
        ("x-ai", {"search_parameters": {"mode": "on"}}, "search_parameters"),
        ("x-ai", {"search_parameters": None}, ""),
        ("perplexity", {}, "model"),
    ],
)
def test_what_nothing_bounds(name: str, members: dict[str, Any], field: str) -> None:
    """What hosts bill beside tokens has no bound: no hard cap could hold it."""
    dialect = DIALECTS[name]
    endpoint = dialect.endpoint("POST", CHAT)
    body = json.dumps({"model": "m", "messages": [], **members}).encode()
    reach = dialect.reach(endpoint, body, dialect.ask(endpoint, body))
    assert (bool(reach.unbounded), reach.field) == (bool(field), field)


def chunk(text: str | None, **members: Any) -> bytes:
    """A chunk of a stream with one choice; `choice` has more members of that."""
    choice = {"index": 0, "delta": {} if text is None else {"content": text}}
    choice |= {"finish_reason": "stop" if text is None else None} | members.pop("choice", {})
    value = {"id": "c1", "model": "m-1", "choices": [choice], **members}
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def usage_chunk(**usage: Any) -> bytes:
    """A chunk that has nothing but usage."""
    value = {"id": "c1", "model": "m-1", "choices": [], "usage": usage}
    return b"data: " + json.dumps(value).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
PART = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
COUNTS = {"input": 9, "output": 2}
CACHED = COUNTS | {"cache_read": 4}
REASONED = {"input": 9, "output": 7, "reasoning": 5}
DETAILS = {"completion_tokens_details": {"reasoning_tokens": 5}}
TWO = chunk("Hi"), chunk(" you")

STREAMS: list[tuple[str, tuple[bytes, ...], dict[str, int], int]] = [
    # on the last chunk with choices
    ("mistral", (*TWO, chunk(None, usage=USAGE), DONE), COUNTS, 2),
    ("zai", (*TWO, chunk(None, usage=USAGE | {"prompt_tokens_details": {"cached_tokens": 4}}), DONE), CACHED, 2),
    # on every chunk, as of then
    ("perplexity", (chunk("Hi", usage=PART), chunk(" you", usage=USAGE), chunk(None, usage=USAGE)), COUNTS, 2),
    ("novita", (chunk("Hi", usage=PART), chunk(None, usage=USAGE), DONE), COUNTS, 1),
    # in a member of the host's own, and in the chunk that was asked for, or not
    ("groq", (*TWO, chunk(None, x_groq={"id": "r", "usage": USAGE}), DONE), COUNTS, 2),
    ("groq", (chunk("Hi", x_groq={"id": "r"}), chunk(None, x_groq={"usage": PART}), usage_chunk(**USAGE), DONE), COUNTS, 1),
    ("moonshotai", (*TWO, chunk(None, choice={"usage": USAGE}), DONE), COUNTS, 2),
    ("moonshotai", (*TWO, chunk(None, choice={"usage": USAGE | {"cached_tokens": 4}}), usage_chunk(**USAGE, cached_tokens=4), DONE), CACHED, 2),
    ("deepseek", (*TWO, chunk(None, usage=None), usage_chunk(**USAGE, prompt_cache_hit_tokens=4, prompt_cache_miss_tokens=5), DONE), CACHED, 2),
    # reasoning beside the completion, as the total tells; and within it
    ("x-ai", (*TWO, chunk(None), usage_chunk(**USAGE | DETAILS | {"total_tokens": 16}), DONE), REASONED, 2),
    ("x-ai", (*TWO, chunk(None), usage_chunk(prompt_tokens=9, completion_tokens=7, total_tokens=16, **DETAILS), DONE), REASONED, 2),
    ("openrouter", (b": OPENROUTER PROCESSING\n\n", *TWO, chunk(None), usage_chunk(**USAGE, cost=0.1), DONE), COUNTS, 3),
]  # fmt: skip


@pytest.mark.parametrize(("name", "stream", "counts", "before"), STREAMS)
def test_where_streams_say_usage(
    name: str, stream: tuple[bytes, ...], counts: dict[str, int], before: int
) -> None:
    """Usage is read wherever a host states it, however the stream is cut; the result stands in the
    last chunk with choices, and a chunk of usage alone stays here."""
    whole = b"".join(stream)
    kept = b"".join(it for it in stream if b'"choices": []' not in it)
    for cut in range(len(whole) + 1):
        out, usage = run(name, whole[:cut], whole[cut:], path=CHAT)
        assert (usage.counts, usage.model, usage.provider_id) == (counts, "m-1", "c1")
        assert without_result(out) == kept
        assert RESULT in events(out)[before].raw


def test_odd_members_of_hosts() -> None:
    """A total that is none is nothing; usage in odd places is no usage, and fails nothing."""
    for odd in ("11", None, 11.5, [1], 10**12):
        _, usage = run("openai", chunk(None, usage=USAGE | {"total_tokens": odd}), path=CHAT)
        assert usage.counts == COUNTS
    members: list[dict[str, Any]] = [
        {"x_groq": 5},
        {"x_groq": {"usage": "x"}},
        {"choice": {"usage": [1]}},
    ]
    for member in members:
        _, usage = run("groq", chunk("Hi", **member), chunk(None), DONE, path=CHAT)
        assert usage.counts is None
        assert usage.finished
    loose = chunk(None, choice={"usage": USAGE}).replace(b'"c1"', b"NaN")
    _, usage = run("moonshotai", loose, DONE, path=CHAT)
    assert usage.counts == COUNTS


def test_answers_that_are_no_stream() -> None:
    """Reasoning apart, and reads from a cache, in the members that hosts have for them."""
    dialect = DIALECTS["x-ai"]
    endpoint = dialect.endpoint("POST", CHAT)
    for usage, expected in (
        (USAGE | DETAILS | {"total_tokens": 16}, REASONED),
        (USAGE | {"cached_tokens": 4}, CACHED),
        (USAGE | {"prompt_cache_hit_tokens": 4, "prompt_tokens_details": {}}, CACHED),
        (USAGE | {"cached_tokens": 4, "prompt_tokens_details": {"cached_tokens": 0}}, COUNTS),
    ):
        body = json.dumps({"id": "c1", "usage": usage}).encode()
        assert dialect.read(endpoint, body).counts == expected


HOST = parse("https://r.openai.azure.com")
AZURE: list[tuple[Azure, Origin | None, str, str, str, tuple[str, str, str]]] = [
    (Azure("r", "dep", "2024-06-01"), None, CHAT, "", "gpt-4o",
     ("https://r.openai.azure.com", "/openai/deployments/dep/chat/completions", "api-version=2024-06-01")),
    (Azure("My-Res", "dep.1_x"), None, "/v1/embeddings", "", "",
     ("https://my-res.openai.azure.com", "/openai/deployments/dep.1_x/embeddings", "api-version=2024-10-21")),
    (Azure("r"), None, CHAT, "a=b", "gpt-4o-mini",
     ("https://r.openai.azure.com", "/openai/deployments/gpt-4o-mini/chat/completions", "a=b&api-version=2024-10-21")),
    (Azure("r", "dep", "2024-06-01"), None, CHAT, "api-version=2025-01-01", "",
     ("https://r.openai.azure.com", "/openai/deployments/dep/chat/completions", "api-version=2025-01-01")),
    (Azure("r", "dep", "v1"), None, CHAT, "", "m", ("https://r.openai.azure.com", "/openai/v1/chat/completions", "")),
    (Azure("r", None, "preview"), None, "/v1/responses", "", "m", ("https://r.openai.azure.com", "/openai/v1/responses", "")),
    (Azure("r", "dep", "2025-03-01-preview"), None, "/v1/responses", "", "m",
     ("https://r.openai.azure.com", "/openai/responses", "api-version=2025-03-01-preview")),
    (Azure("r", None, "2025-03-01-preview"), None, "/v1/responses/resp_1", "", "",
     ("https://r.openai.azure.com", "/openai/responses/resp_1", "api-version=2025-03-01-preview")),
    (Azure("r"), None, "/v1/models", "", "", ("https://r.openai.azure.com", "/openai/models", "api-version=2024-10-21")),
    # a custom host takes the resource's place; a stored credential knows its own
    (Azure("r", "dep"), parse("https://gw.example.com/az"), CHAT, "", "",
     ("https://gw.example.com/az", "/openai/deployments/dep/chat/completions", "api-version=2024-10-21")),
    (Azure(None, "dep"), parse("https://gw.example.com/openai"), CHAT, "", "",
     ("https://gw.example.com/openai", "/deployments/dep/chat/completions", "api-version=2024-10-21")),
    (Azure(None, "dep"), None, CHAT, "", "", ("", "/openai/deployments/dep/chat/completions", "api-version=2024-10-21")),
    # Azure's own paths are as they came
    (Azure("r"), None, "/openai/deployments/d/chat/completions", "api-version=1", "m",
     ("https://r.openai.azure.com", "/openai/deployments/d/chat/completions", "api-version=1")),
]  # fmt: skip


@pytest.mark.parametrize(("said", "host", "path", "query", "model", "expected"), AZURE)
def test_azure_by_headers(
    said: Azure,
    host: Origin | None,
    path: str,
    query: str,
    model: str,
    expected: tuple[str, str, str],
) -> None:
    """Resource, deployment and version become Azure's URL; what comes of it is metered."""
    there, azure_path, azure_query = hosts.azure(said, host, path, query.encode(), model)
    assert ("" if there is None else there.url, azure_path, azure_query.decode()) == expected
    kind = "metered" if path.endswith(("completions", "embeddings", "responses")) else "free"
    method = "POST" if kind == "metered" else "GET"
    assert DIALECTS["azure.openai"].endpoint(method, azure_path, azure_query).kind == kind


@pytest.mark.parametrize(
    ("said", "model", "field"),
    [
        (Azure("a.b"), "m", "resource-name"),
        (Azure("evil.com/"), "m", "resource-name"),
        (Azure("a@b"), "m", "resource-name"),
        (Azure("-a"), "m", "resource-name"),
        (Azure("a" * 64), "m", "resource-name"),
        (Azure("r\n"), "m", "resource-name"),
        (Azure("r", "a/b"), "m", "deployment-id"),
        (Azure("r", ".."), "m", "deployment-id"),
        (Azure("r", "a?b"), "m", "deployment-id"),
        (Azure("r", "a%2e"), "m", "deployment-id"),
        (Azure("r"), "", "deployment-id"),
        (Azure("r"), "org/model", "deployment-id"),
        (Azure("r", "d", "1&x=2"), "m", "api-version"),
        (Azure("r", "d", "2024 06"), "m", "api-version"),
    ],
)
def test_azure_by_wrong_headers(said: Azure, model: str, field: str) -> None:
    """What could lead elsewhere, or nowhere, is refused by the name of its header."""
    with pytest.raises(InvalidRequest) as caught:
        hosts.azure(said, None, CHAT, b"", model)
    assert caught.value.field == f"x-portkey-azure-{field}"
    assert caught.value.message.startswith(f"Header x-portkey-azure-{field} ")
