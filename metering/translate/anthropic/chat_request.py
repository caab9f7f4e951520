"""A chat completion's request as one for messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Raw

from metering.errors import InvalidRequest
from metering.translate import reading
from metering.translate.anthropic import capabilities, chat_thinking
from metering.translate.anthropic.blocks import Text
from metering.translate.anthropic.capabilities import Capabilities
from metering.translate.anthropic.chat_answer import ChatAnswers
from metering.translate.anthropic.chat_messages import Conversation
from metering.translate.anthropic.chat_tools import Tools
from metering.translate.base import Options, Translated
from metering.translate.reading import Lost, is_text, missing, wrong

PASSED = frozenset(
    {
        *("cache_control", "container", "mcp_servers", "context_management", "inference_geo"),
        *("speed", "diagnostics", "compaction", "fallbacks", "fallback_credit_token", "thread"),
        "billing_policy",
    }
)
"""Anthropic's own members that a client may send beside OpenAI's."""
BETAS = {
    "mcp_servers": "mcp-client-2025-11-20",
    "context_management": "context-management-2025-06-27",
    "speed": "fast-mode-2026-02-01",
}
"""Members that only a beta takes, and which."""
_READ = frozenset(
    {
        *("model", "messages", "system", "stream", "stream_options", "tools", "functions"),
        *("tool_choice", "function_call", "parallel_tool_calls", "web_search_options"),
        *("max_tokens", "max_completion_tokens", "thinking", "reasoning_effort", "reasoning"),
        *("temperature", "top_p", "top_k", "stop", "stop_sequences", "user", "safety_identifier"),
        *("metadata", "response_format", "output_config", "service_tier", "betas"),
        *("anthropic_beta", "anthropic_version"),
    }
)
_DEFAULTS: dict[str, Any] = {
    "n": 1,
    "logprobs": False,
    "top_logprobs": 0,
    "logit_bias": {},
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "store": False,
    "modalities": ["text"],
    "verbosity": "medium",
}
"""What says nothing where it is so: not carried, and nothing lost."""
_TIERS = {"auto": "auto", "standard_only": "standard_only", "default": "standard_only"}
_PRIORITY = ("priority", "fast")
"""What is the nearest to `auto`, where priority is if there is any."""


def chat_to_messages(body: bytes, options: Options) -> Translated:
    """See `base.Translate`."""
    fields = reading.top(body)
    lost = Lost()
    model = model_of(fields)
    able = capabilities.of(model)
    tools = Tools(lost, schemas=able.schemas)
    tools.read(fields)
    if not able.forced_tools:
        tools.free()
    made: dict[str, Any] = {"model": fields["model"]}
    _converse(made, fields, able, lost)
    plan = chat_thinking.plan(
        fields, able, lost, output_max=options.max_output_tokens, forced=tools.forced
    )
    made["max_tokens"] = plan.max_tokens
    tools.write(made)
    if plan.thinking is not None:
        made["thinking"] = plan.thinking
    made |= chat_thinking.sampling(fields, able, lost, thinks=plan.thinks)
    configure(made, fields, plan.effort, _format(fields, able, lost))
    for read in _OTHERS:
        read(made, fields, lost)
    made |= {name: raw for name, raw in fields.items() if name in PASSED}
    streamed = "stream" in fields and reading.flag(fields["stream"], "stream")
    if streamed:
        made["stream"] = True
    reading.drop(fields, _READ | PASSED, _DEFAULTS, lost)
    return Translated(
        body=reading.encode(made),
        answers=ChatAnswers(
            options,
            model=model,
            include_usage=streamed and _include_usage(fields, lost),
            legacy=tools.legacy,
        ),
        dropped=lost.dropped,
        changed=lost.changed,
        headers=headers(fields),
    )


def model_of(fields: dict[str, Raw]) -> str:
    """The model that is called."""
    model = reading.text(fields["model"], "model") if "model" in fields else ""
    if not model:
        raise missing("model", "name the model to call")
    return model


def _converse(made: dict[str, Any], fields: dict[str, Raw], able: Capabilities, lost: Lost) -> None:
    if "messages" not in fields:
        raise missing("messages", "send a list of messages")
    conversation = Conversation(lost, late_system=able.late_system)
    for index, message in enumerate(reading.objects(fields["messages"], "messages")):
        conversation.add(message, f"messages[{index}]")
    conversation.end("messages")
    system: list[Any] = []
    if "system" in fields:  # Anthropic's own
        given = fields["system"]
        system += [Text(given)] if is_text(given) else reading.items(given, "system")
    system += conversation.system
    if system:
        made["system"] = system
    made["messages"] = conversation.turns


def configure(
    made: dict[str, Any], fields: dict[str, Raw], effort: str | None, schema: Raw | None
) -> None:
    """`output_config`: the client's own, and what effort and format come to."""
    config: dict[str, Any] = {}
    if effort is not None:
        config["effort"] = effort
    if schema is not None:
        config["format"] = {"type": "json_schema", "schema": schema}
    if "output_config" in fields:
        config |= reading.members(fields["output_config"], "output_config")
    if config:
        made["output_config"] = config


def _format(fields: dict[str, Raw], able: Capabilities, lost: Lost) -> Raw | None:
    """The schema that an answer must keep to."""
    if "response_format" not in fields:
        return None
    asked = reading.members(fields["response_format"], "response_format")
    kind = reading.text(asked["type"], "response_format.type") if "type" in asked else ""
    if kind not in {"text", "json_object", "json_schema"}:
        raise wrong("response_format.type", "'text', 'json_object' or 'json_schema'")
    if kind == "json_object" or (kind == "json_schema" and not able.schemas):
        lost.drop("response_format")
    if kind != "json_schema":
        return None
    path = "response_format.json_schema"
    schema = reading.members(asked["json_schema"], path) if "json_schema" in asked else {}
    if "schema" not in schema:
        raise missing(f"{path}.schema", "it is the JSON schema to keep to")
    return schema["schema"] if able.schemas else None


def stops(made: dict[str, Any], fields: dict[str, Raw], lost: Lost) -> None:
    """Where to stop. Anthropic refuses what is nothing but space."""
    given_by = [(name, fields[name]) for name in ("stop", "stop_sequences") if name in fields]
    kept: list[str] = []
    for name, given in given_by:
        single = is_text(given)
        for index, raw in enumerate([given] if single else reading.items(given, name)):
            path = name if single else f"{name}[{index}]"
            text = reading.text(raw, path)
            if text.strip():
                kept.append(text)
            else:
                lost.drop(path)
    if kept:
        made["stop_sequences"] = kept


def user(made: dict[str, Any], fields: dict[str, Raw], lost: Lost) -> None:
    """Whom the call is for, under the one name that Anthropic has for it."""
    metadata = reading.members(fields["metadata"], "metadata") if "metadata" in fields else {}
    named: list[tuple[str, Raw]] = [
        (path, fields[path]) for path in ("user", "safety_identifier") if path in fields
    ]
    if "user_id" in metadata:
        named.insert(0, ("metadata.user_id", metadata.pop("user_id")))
    for path, raw in named:
        if not is_text(raw):
            raise wrong(path, "a string")
    if named:
        made["metadata"] = {"user_id": named[0][1]}
        lost.drop(*(path for path, raw in named[1:] if raw != named[0][1]))
    lost.drop(*(f"metadata.{name}" for name in metadata))


def tier(made: dict[str, Any], fields: dict[str, Raw], lost: Lost) -> None:
    """What the call is served as."""
    if "service_tier" not in fields:
        return
    asked = reading.text(fields["service_tier"], "service_tier")
    if asked in _PRIORITY:
        lost.change("service_tier")
        asked = "auto"
    if asked in _TIERS:
        made["service_tier"] = _TIERS[asked]
    else:
        lost.drop("service_tier")


_OTHERS: tuple[Callable[[dict[str, Any], dict[str, Raw], Lost], None], ...] = (stops, user, tier)


def _include_usage(fields: dict[str, Raw], lost: Lost) -> bool:
    if "stream_options" not in fields:
        return False
    asked = reading.members(fields["stream_options"], "stream_options")
    lost.unknown(asked, frozenset({"include_usage", "include_obfuscation"}), "stream_options")
    name = "stream_options.include_usage"
    return "include_usage" in asked and reading.flag(asked["include_usage"], name)


def headers(fields: dict[str, Raw]) -> tuple[tuple[bytes, bytes], ...]:
    """Betas that the client names in the body, as Anthropic's SDK has them, or that it needs."""
    betas: list[str] = []
    for name in ("betas", "anthropic_beta"):
        if name in fields:
            single = is_text(fields[name])
            given = [fields[name]] if single else reading.items(fields[name], name)
            betas += [reading.text(raw, name) for raw in given]
    for name, beta in BETAS.items():
        kind = beta[: -len("-2025-01-01")]
        if name in fields and not any(kind in it for it in betas):
            betas.append(beta)
    made = []
    if betas:
        made.append((b"anthropic-beta", _header(",".join(betas), "betas")))
    if "anthropic_version" in fields:
        version = reading.text(fields["anthropic_version"], "anthropic_version")
        made.append((b"anthropic-version", _header(version, "anthropic_version")))
    return tuple(made)


def _header(text: str, path: str) -> bytes:
    if not text.isascii() or not text.isprintable():
        raise InvalidRequest(
            f"Request field '{path}' must be names of printable characters, as a header takes them",
            code="invalid_request_field",
            field=path,
        )
    return text.encode()
