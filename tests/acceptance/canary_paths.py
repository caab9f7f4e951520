"""What canaries travel through: the paths of the data plane, the slots that keys stand in, and what
may go wrong. A new endpoint is one more line of `PROVIDERS_OWN`.

In templates `PROMPT` stands for what a caller says and `ANSWER` for what a provider does.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import httpx

from metering.providers import DIALECTS, base
from metering.surfaces import surface_of
from tests.acceptance.tenant import ANTHROPIC, CHAT, MESSAGES, OPENAI
from tests.standin.media import tone

PROMPT, ANSWER, STANDIN = "<prompt>", "<answer>", "<stand-in>"
FORM_FILE = "<file>" + PROMPT
"""A file with a prompt in it: a body that has one is sent as a form."""
OWN, OURS, ENCODED = "<own>", "<ours>", "<ours, encoded>"
SCHEMA = {"type": "object", "properties": {"q": {"type": "string", "description": PROMPT}}}
FUNCTION = {"name": "f", "description": PROMPT, "parameters": SCHEMA}
ARGUMENTS = json.dumps({"q": ANSWER})
CALLED = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": ARGUMENTS}}
AZURE_OPENAI = "/api/v1/proxy/azure.openai/openai/v1"
AZURE_ANTHROPIC = "/api/v1/proxy/azure.anthropic/anthropic"
GPT, CLAUDE = "gpt-4o-mini", "claude-haiku-4-5"
TOKENS = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
IN_OUT = {"input_tokens": 9, "output_tokens": 5}


class Endpoint(NamedTuple):
    """One endpoint of a provider as its callers use it."""

    method: str
    url: str
    body: Any = None
    answer: Any = None
    """None: whatever the stand-in says by itself."""
    events: Any = None
    """Of a streamed answer; None: the endpoint does not stream."""
    headers: tuple[tuple[str, str], ...] = ()
    """Of every call of it; `STANDIN` is where the provider is."""

    @property
    def route(self) -> tuple[str, str]:
        """(dialect, the provider's path)."""
        surface = surface_of(self.url.encode())
        found = None if surface is None else surface.match(self.url)
        assert found is not None, self.url
        return found

    @property
    def meaning(self) -> base.Endpoint:
        """What it means to its provider's dialect."""
        dialect, path = self.route
        return DIALECTS[dialect].endpoint(self.method, path)

    def by_litellm(self) -> Endpoint:
        """The same by LiteLLM's route."""
        return self._replace(url=self.url.removeprefix("/api/v1/proxy"))

    def at_azure(self) -> Endpoint:
        """The same at Azure, where a call says what its deployment is and where."""
        ours = self.url.startswith(OPENAI)
        url = self.url.replace(OPENAI, AZURE_OPENAI).replace(ANTHROPIC, AZURE_ANTHROPIC)
        model = GPT if ours else CLAUDE
        headers = (("xProxy-Provider-BaseUri", STANDIN), ("xProxy-PriceAs-Resource", model))
        return self._replace(url=url, headers=headers)


def filled(template: Any, **texts: str) -> Any:
    """A template with its texts in place: `PROMPT=...`."""
    text = json.dumps(template)
    for name, value in texts.items():
        text = text.replace(f"<{name.lower()}>", json.dumps(value)[1:-1])
    return json.loads(text)


def written(body: dict[str, Any]) -> tuple[bytes, str]:
    """A body as it is sent, and its type."""
    files = {name: it for name, it in body.items() if str(it).startswith("<file>")}
    if not files:
        return json.dumps(body, ensure_ascii=False).encode(), "application/json"
    form = httpx.Request(
        "POST",
        "http://form",
        data={name: it for name, it in body.items() if name not in files},
        files={name: ("a.wav", tone(1) + it.encode()) for name, it in files.items()},
    )
    return form.read(), form.headers["content-type"]


def choice(**members: Any) -> dict[str, Any]:
    """A chunk of a chat's stream."""
    chosen = {"index": 0, "delta": {}, "finish_reason": None} | members
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": GPT} | {
        "choices": [chosen]
    }


CHAT_ASK = {
    "model": GPT,
    "messages": [
        {"role": "system", "content": PROMPT},
        {"role": "user", "content": [{"type": "text", "text": PROMPT}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [CALLED | {"function": {"name": "f", "arguments": PROMPT}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": PROMPT},
        {"role": "user", "content": PROMPT},
    ],
    "tools": [{"type": "function", "function": FUNCTION}],
    "stop": [PROMPT],
    "user": PROMPT,
    "metadata": {"k": PROMPT},
    "max_tokens": 50,
}
CHAT_ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": GPT,
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": ANSWER, "tool_calls": [CALLED]},
            "finish_reason": "tool_calls",
        }
    ],
    "usage": TOKENS,
}
CHAT_EVENTS = [
    choice(delta={"role": "assistant", "content": ANSWER}),
    choice(delta={"tool_calls": [CALLED | {"index": 0}]}),
    choice(delta={"content": ANSWER}),
    choice(finish_reason="stop"),
    choice() | {"choices": [], "usage": TOKENS},
]
CLAUDE_ASK = {
    "model": CLAUDE,
    "max_tokens": 50,
    "system": [{"type": "text", "text": PROMPT}],
    "messages": [
        {"role": "user", "content": PROMPT},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {"q": PROMPT}}],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "t1", "content": PROMPT}],
        },
    ],
    "tools": [{"name": "f", "description": PROMPT, "input_schema": SCHEMA}],
    "metadata": {"user_id": PROMPT},
    "stop_sequences": [PROMPT],
}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": CLAUDE}
CLAUDE_ANSWER = MESSAGE | {
    "content": [
        {"type": "thinking", "thinking": ANSWER, "signature": ANSWER},
        {"type": "text", "text": ANSWER},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"q": ANSWER}},
    ],
    "stop_reason": "tool_use",
    "usage": IN_OUT,
}
CLAUDE_EVENTS = [
    {"type": "message_start", "message": MESSAGE | {"content": [], "usage": IN_OUT}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": ANSWER},
    },
    {
        "type": "content_block_delta",
        "index": 1,
        "delta": {"type": "input_json_delta", "partial_json": ARGUMENTS},
    },
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": IN_OUT},
    {"type": "message_stop"},
]
RESPONSE = {"id": "resp_1", "object": "response", "model": GPT, "status": "completed"}
RESPONSE_ANSWER = RESPONSE | {
    "instructions": PROMPT,
    "output": [
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": ANSWER}],
        },
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": ARGUMENTS},
    ],
    "usage": IN_OUT | {"total_tokens": 14},
}
RESPONSE_ASK = {
    "model": GPT,
    "instructions": PROMPT,
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": PROMPT}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": PROMPT},
        {"type": "function_call_output", "call_id": "c1", "output": PROMPT},
    ],
    "tools": [{"type": "function"} | FUNCTION],
    "metadata": {"k": PROMPT},
    "max_output_tokens": 50,
}
TEXT = {"id": "cmpl-1", "object": "text_completion", "model": "gpt-3.5-turbo-instruct"}
COMPLETION = {"type": "completion", "id": "compl_1", "model": CLAUDE}
FILE = {"purpose": "batch", "file": FORM_FILE}
IMAGE_ASK = {"model": "gpt-image-1.5", "prompt": PROMPT, "user": PROMPT}
IMAGE_FORM = IMAGE_ASK | {"image": FORM_FILE}
IMAGE_ANSWER = {"data": [{"b64_json": ANSWER, "revised_prompt": ANSWER}], "usage": IN_OUT}
IMAGE_EVENTS = [
    {"type": "image_generation.partial_image", "b64_json": ANSWER},
    {"type": "image_generation.completed", "b64_json": ANSWER, "usage": IN_OUT},
]
HEARD_FORM = {"model": "gpt-4o-transcribe", "prompt": PROMPT, "file": FORM_FILE}
HEARD_ANSWER = {"text": ANSWER, "usage": IN_OUT}
HEARD_EVENTS = [
    {"type": "transcript.text.delta", "delta": ANSWER},
    {"type": "transcript.text.done", "text": ANSWER, "usage": IN_OUT},
]
PROVIDERS_OWN = (
    # metered
    Endpoint("POST", CHAT, CHAT_ASK, CHAT_ANSWER, CHAT_EVENTS),
    Endpoint("POST", MESSAGES, CLAUDE_ASK, CLAUDE_ANSWER, CLAUDE_EVENTS),
    Endpoint(
        "POST",
        OPENAI + "/responses",
        RESPONSE_ASK,
        RESPONSE_ANSWER,
        [
            {"type": "response.created", "response": RESPONSE | {"status": "in_progress"}},
            {"type": "response.output_text.delta", "delta": ANSWER, "output_index": 0},
            {"type": "response.function_call_arguments.delta", "delta": ARGUMENTS},
            {"type": "response.completed", "response": RESPONSE_ANSWER},
        ],
    ),
    Endpoint("POST", OPENAI + "/responses/compact", RESPONSE_ASK, RESPONSE_ANSWER),
    Endpoint(
        "POST",
        OPENAI + "/completions",
        {"model": TEXT["model"], "prompt": [PROMPT, PROMPT], "suffix": PROMPT, "max_tokens": 9},
        TEXT | {"choices": [{"index": 0, "text": ANSWER}], "usage": TOKENS},
        [
            TEXT | {"choices": [{"index": 0, "text": ANSWER, "finish_reason": "stop"}]},
            TEXT | {"choices": [], "usage": TOKENS},
        ],
    ),
    Endpoint(
        "POST", OPENAI + "/embeddings", {"model": "text-embedding-3-small", "input": [PROMPT]}
    ),
    Endpoint(
        "POST",
        OPENAI + "/decisions",
        {"model": GPT, "input": PROMPT, "questions": [{"text": PROMPT}]},
        RESPONSE | {"answers": [ANSWER], "usage": IN_OUT},
    ),
    Endpoint("POST", OPENAI + "/containers", {"name": PROMPT}, {"id": "cntr_1", "name": ANSWER}),
    Endpoint("POST", OPENAI + "/images/generations", IMAGE_ASK, IMAGE_ANSWER, IMAGE_EVENTS),
    Endpoint("POST", OPENAI + "/images/edits", IMAGE_FORM, IMAGE_ANSWER, IMAGE_EVENTS),
    Endpoint("POST", OPENAI + "/images/variations", IMAGE_FORM, IMAGE_ANSWER),
    Endpoint(
        "POST",
        OPENAI + "/audio/speech",
        {"model": "gpt-4o-mini-tts", "input": PROMPT, "instructions": PROMPT},
    ),
    Endpoint("POST", OPENAI + "/audio/transcriptions", HEARD_FORM, HEARD_ANSWER, HEARD_EVENTS),
    Endpoint("POST", OPENAI + "/audio/translations", HEARD_FORM, HEARD_ANSWER),
    Endpoint(
        "POST",
        ANTHROPIC + "/v1/complete",
        {"model": CLAUDE, "prompt": PROMPT, "max_tokens_to_sample": 9, "metadata": {"k": PROMPT}},
        COMPLETION | {"completion": ANSWER, "stop_reason": "stop_sequence"},
        [
            COMPLETION | {"completion": ANSWER, "stop_reason": None},
            COMPLETION | {"completion": "", "stop_reason": "stop_sequence"},
        ],
    ),
    # free
    Endpoint("GET", OPENAI + "/models"),
    Endpoint("GET", ANTHROPIC + "/v1/models"),
    Endpoint("GET", OPENAI + "/responses/resp_1", None, RESPONSE_ANSWER),
    Endpoint("POST", OPENAI + "/moderations", {"input": PROMPT}, {"results": [{"text": ANSWER}]}),
    Endpoint("POST", OPENAI + "/files", FILE, {"id": "file-1", "filename": ANSWER}),
    Endpoint("DELETE", OPENAI + "/files/file-1", None, {"id": "file-1", "deleted": True}),
    Endpoint("POST", ANTHROPIC + "/v1/messages/count_tokens", CLAUDE_ASK),
    # what is not metered
    Endpoint("POST", OPENAI + "/threads/runs", {"assistant_id": "a", "instructions": PROMPT}),
    Endpoint("POST", OPENAI + "/batches", {"metadata": {"k": PROMPT}}, {"errors": [ANSWER]}),
    Endpoint("POST", ANTHROPIC + "/v1/unheard/of", {"prompt": PROMPT}, {"text": ANSWER}),
)
METERED = tuple(path for path in PROVIDERS_OWN if path.meaning.kind == "metered")
PATHS = PROVIDERS_OWN + tuple(path.at_azure() for path in PROVIDERS_OWN)
ONE_OF_EACH = (PATHS[0], PATHS[1], PROVIDERS_OWN[-1])
"""An endpoint of either provider, and one that is not metered."""


class Slot(NamedTuple):
    """Where the keys of a call stand. `xProxy-Api-Key` with our key comes by itself."""

    name: str
    headers: dict[str, str]
    query: str = ""
    goes_to: str = ""
    """Where the caller's own key is when it reaches the provider; empty: nowhere."""

    @staticmethod
    def with_key(template: str, key: str) -> str:
        """A header or query with the key in its place."""
        encoded = "".join(f"%{byte:02X}" for byte in key.encode())
        return template.replace(OWN, key).replace(OURS, key).replace(ENCODED, encoded)


OWN_SLOTS = (
    Slot("Bearer", {"Authorization": f"Bearer {OWN}"}, goes_to="authorization"),
    Slot("Bare", {"Authorization": OWN}, goes_to="authorization"),
    Slot("Xapikey", {"x-api-key": OWN}, goes_to="x-api-key"),
    Slot("Apikey", {"api-key": OWN}, goes_to="api-key"),
    Slot("Google", {"x-goog-api-key": OWN}, goes_to="x-goog-api-key"),
    Slot("Forward", {"xProxy-Forward-Authorization": f"Bearer {OWN}"}, goes_to="authorization"),
    Slot("Query", {"Authorization": "Bearer sk-other"}, f"key={OWN}", goes_to="query"),
    Slot("Dropped", {}, f"key={OWN}&api_key={OWN}"),  # a stored key serves the call
    Slot("Cookie", {"Cookie": f"k={OWN}", "Proxy-Authorization": OWN, "Forwarded": OWN}),
)
"""The caller's own provider key."""
OF_OPENAI, OF_ANTHROPIC = (
    (("x-portkey-provider", "openai"),),
    (("x-portkey-provider", "anthropic"),),
)
TO_OPENAI = (
    Endpoint("POST", "/v1/chat/completions", CHAT_ASK, CHAT_ANSWER, CHAT_EVENTS, OF_OPENAI),
    Endpoint(
        "POST", "/v1/messages", CLAUDE_ASK | {"model": GPT}, CHAT_ANSWER, CHAT_EVENTS, OF_OPENAI
    ),
)
TOLD = [{"role": "system", "content": PROMPT}, {"role": "user", "content": PROMPT}]
TOOLS = [{"type": "function", "function": FUNCTION}]
TO_ANTHROPIC = tuple(
    Endpoint("POST", f"/v1/{path}", ask, CLAUDE_ANSWER, CLAUDE_EVENTS, OF_ANTHROPIC)
    for path, ask in (
        ("messages", CLAUDE_ASK),
        ("chat/completions", {"model": CLAUDE, "messages": TOLD, "tools": TOOLS, "seed": PROMPT}),
        ("responses", {"model": CLAUDE, "input": PROMPT, "instructions": PROMPT}),
    )
)
"""Endpoints of the unified surface, as they come and translated."""
UNIFIED_SLOTS = (
    Slot("Openais", {"Authorization": f"Bearer {OWN}"}, goes_to="authorization"),
    Slot("Claudes", {"Authorization": f"Bearer {OWN}"}, goes_to="x-api-key"),
    Slot(
        "Config",
        {"x-portkey-config": json.dumps({"provider": "anthropic", "api_key": OWN})},
        goes_to="x-api-key",
    ),
    Slot("Metadata", {"x-portkey-metadata": json.dumps({"a": [OWN]})}),
    Slot("Virtual", {"x-portkey-virtual-key": OWN, "x-portkey-trace-id": "t"}),
    Slot("Broken", {"x-portkey-config": "{" + OWN}),
)
"""Where keys stand there: a provider gets one where it looks for it."""
OUR_SLOTS = (
    Slot("Alone", {}),
    Slot("Bearer", {"xProxy-Api-Key": "", "Authorization": f"Bearer {OURS}"}),
    Slot("Xapikey", {"xProxy-Api-Key": "", "x-api-key": OURS}),
    Slot("Apikey", {"xProxy-Api-Key": "", "api-key": OURS}),
    Slot("Google", {"xProxy-Api-Key": "", "x-goog-api-key": OURS}),
    Slot("Twice", {"Authorization": f"Bearer {OURS}", "x-api-key": OURS}),
    Slot("Beside", {"Authorization": "Bearer sk-other", "x-api-key": OURS, "api-key": OURS}),
    Slot("Forward", {"xProxy-Forward-X-Api-Key": OURS, "xProxy-Forward-Note": OURS}),
    Slot("Note", {"X-Note": f"see {OURS}", "Referer": f"https://x.test/?k={OURS}"}),
    Slot("Query", {}, f"a=1&key={OURS}&b={OURS}"),
    Slot("Own", {"Authorization": "Bearer sk-other"}, f"key={OURS}&k=%20{OURS}"),
    Slot("Encoded", {"Authorization": "Bearer sk-other"}, f"a=%26&key={ENCODED}"),
)
"""A key of ours, which stays here."""

# What a provider does; of a metered endpoint, streamed and not.
FAULTS: tuple[dict[str, Any], ...] = (
    {"headers": {"x-note": ANSWER, "openai-organization": ANSWER, "set-cookie": ANSWER}},
    {"wrong_usage": "missing", "text": ANSWER},
    {"wrong_usage": "text", "text": ANSWER},
    {"text": ANSWER, "content_encoding": "gzip"},
    {"text": ANSWER, "content_encoding": "br"},
    {"text": ANSWER * 3_000},
    {"text": ANSWER, "malformed": "garbage_json"},
    {"text": ANSWER, "malformed": "not_utf8"},
    {"text": ANSWER, "malformed": "truncated"},
    {"text": ANSWER, "malformed": "error_event"},
    {"text": ANSWER, "malformed": "no_end"},
    {"text": ANSWER, "malformed": "no_usage_no_end"},
    {"text": ANSWER, "malformed": "many_data_lines"},
    {"body_bytes": 99, "headers": {"x-note": ANSWER}},
    {"text": ANSWER, "cut_at_byte": 0},
    {"text": ANSWER, "cut_at_byte": 40},
    {"text": ANSWER, "cut_at_byte": 400},
    {"text": ANSWER, "reset_at_byte": 700},
    {"body": {"no": ["answer", ANSWER]}},
    {"events": [{"error": {"message": ANSWER + PROMPT + OWN}}]},
    {"events": [{"type": "error", "error": {"type": "api_error", "message": ANSWER + OWN}}]},
)
ERRORS: tuple[dict[str, Any], ...] = (
    {"status": 401, "error": {"error": {"message": f"Incorrect API key provided: {OWN}."}}},
    {"status": 400, "error": {"error": {"message": f"Bad prompt {PROMPT}", "param": ANSWER}}},
    {"status": 429, "error": {"error": {"message": f"{ANSWER} {PROMPT} {OWN}"}}},
    {"status": 500, "error": {"detail": f"Bearer {OWN} said {PROMPT}"}},
    {"status": 503, "malformed": "not_sse", "headers": {"x-note": OWN, "location": OWN}},
    {"status": 404, "malformed": "truncated", "error": {"key": OWN, "text": (ANSWER + " ") * 9}},
)
"""Errors that repeat what they were sent."""

# Bodies of a metered endpoint that we refuse.
BAD_BODIES = (
    PROMPT,
    f'"{PROMPT}"',
    f'["{PROMPT}"]',
    f'{{"model": "gpt-4o-mini", "messages": [{{"content": "{PROMPT}"',
    f'{{"model": {{"name": "{PROMPT}"}}}}',
    f'{{"messages": [{{"role": "user", "content": "{PROMPT}"}}]}}',
    f'{{"model": "gpt-4o-mini", "stream": "{PROMPT}"}}',
    f'{{"model": "gpt-4o-mini", "max_tokens": "{PROMPT}", "max_output_tokens": "{PROMPT}"}}',
    f'{{"model": "gpt-4o-mini\\n{PROMPT}"}}',
    f'{{"model": "{PROMPT * 20}"}}',
    f'{{"model": "gpt-4o-mini"}} {PROMPT}',
    f'{{"model": "gpt-4o-mini", "service_tier": "say {PROMPT}", "max_tokens": 9}}',
    f'{{"{PROMPT}": ' + "[" * 3_000,
    f'{{"model": "gpt-4o-mini", "x": "{PROMPT * 2_000}"}}',
    f'{{"model": "a-model-without-a-price", "messages": [{{"role": "u", "content": "{PROMPT}"}}]}}',
)
# Headers that we refuse, each with a secret in it.
BAD_HEADERS = (
    ("xProxy-Limit-IDs", OWN + " x"),
    ("xProxy-Limit-IDs", OWN),
    ("xProxy-Budget-IDs", f"team,{OWN},{OWN}"),
    ("xProxy-Request-Tags", f"a b {OWN}"),
    ("xProxy-User-ID", f"Bearer {OWN}"),
    ("xProxy-Account-Name", OWN * 20),
    ("xProxy-UseCase-Name", f"a/{OWN}"),
    ("xProxy-UseCase-Version", OWN),
    ("xProxy-Resource-Scope", OWN),
    ("xProxy-Logging-Disable", OWN),
    ("xProxy-Result", OWN),
    ("xProxy-On-Disconnect", OWN),
    ("xProxy-Request-Properties", "{" + OWN),
    ("xProxy-Request-Properties", json.dumps({"a": {"b": OWN}})),
    ("xProxy-UseCase-Properties", "%%" + OWN),
    ("xProxy-Forward-Host", OWN),
    ("xProxy-PriceAs-Resource", OWN),
    ("xProxy-Provider-BaseUri", f"https://user:{OWN}@example.com"),
    ("xProxy-Provider-BaseUri", f"https://example.com/?key={OWN}"),
    ("xProxy-Provider-BaseUri", OWN),
    ("X-Long", OWN * 1_200),
)
