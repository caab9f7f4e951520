"""A responses request as one for messages.

There is nothing stored between calls: what refers to an earlier one is refused, and the client is
given all that it has to send back.
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from metering.errors import InvalidRequest
from metering.translate import reading
from metering.translate.anthropic import capabilities, chat_request, chat_thinking
from metering.translate.anthropic.blocks import Text
from metering.translate.anthropic.capabilities import Capabilities
from metering.translate.anthropic.chat_thinking import Plan
from metering.translate.anthropic.responses_answer import ResponsesAnswers
from metering.translate.anthropic.responses_input import Input
from metering.translate.anthropic.responses_tools import ResponsesTools
from metering.translate.anthropic.turns import EMPTY
from metering.translate.base import Options, Translated
from metering.translate.reading import Lost, is_text, missing, wrong

_STORED = {
    "previous_response_id": "send the whole conversation in 'input'",
    "conversation": "send the whole conversation in 'input'",
    "prompt": "send its text in 'instructions' and 'input'",
}
"""Members that refer to what is stored, and what to send instead."""
_PASSED = chat_request.PASSED - {"context_management"}  # which is OpenAI's own here
_BETAS = ("betas", "anthropic_beta", "anthropic_version")
_READ = frozenset(
    {
        *("model", "input", "instructions", "stream", "stream_options", "background", "include"),
        *("tools", "tool_choice", "parallel_tool_calls", "max_output_tokens", "temperature"),
        *("top_p", "top_k", "reasoning", "thinking", "text", "output_config", "metadata", "user"),
        *("safety_identifier", "service_tier", *_BETAS),
    }
)
_TOOLS = ("tools", "tool_choice", "parallel_tool_calls")
_DEFAULTS: dict[str, Any] = {"store": False, "truncation": "disabled", "top_logprobs": 0}
"""What says nothing where it is so: not carried, and nothing lost."""
_SUMMARIES = ("summary", "generate_summary")
_REASONING = frozenset({"effort", *_SUMMARIES})
_TEXT = frozenset({"format", "verbosity"})
_VERBOSITY = Raw(b'"medium"')


def responses_to_messages(body: bytes, options: Options) -> Translated:
    """See `base.Translate`."""
    fields = reading.top(body)
    _refuse(fields)
    lost = Lost()
    model = chat_request.model_of(fields)
    able = capabilities.of(model)
    tools = ResponsesTools(lost, schemas=able.schemas)
    tools.read({name: fields[name] for name in _TOOLS if name in fields})
    if not able.forced_tools:
        tools.free()
    made: dict[str, Any] = {"model": fields["model"]}
    _converse(made, fields, able, lost)
    plan = _plan(fields, able, lost, output_max=options.max_output_tokens, forced=tools.forced)
    made["max_tokens"] = plan.max_tokens
    tools.write(made)
    if plan.thinking is not None:
        made["thinking"] = plan.thinking
    made |= chat_thinking.sampling(fields, able, lost, thinks=plan.thinks)
    chat_request.configure(made, fields, plan.effort, _schema(fields, able, lost))
    chat_request.user(made, fields, lost)
    chat_request.tier(made, fields, lost)
    passed = {name: raw for name, raw in fields.items() if name in _PASSED}
    made |= passed
    if _streamed(fields, lost):
        made["stream"] = True
    _include(fields, lost)
    reading.drop(fields, _READ | _PASSED, _DEFAULTS, lost)
    return Translated(
        body=reading.encode(made),
        answers=ResponsesAnswers(options, fields),
        dropped=lost.dropped,
        changed=lost.changed,
        headers=chat_request.headers({**passed, **_betas(fields)}),
    )


def _betas(fields: dict[str, Raw]) -> dict[str, Raw]:
    return {name: fields[name] for name in _BETAS if name in fields}


def _refuse(fields: dict[str, Raw]) -> None:
    """Refuses what asks for something that is kept between calls."""
    for name, instead in _STORED.items():
        if name in fields:
            raise InvalidRequest(
                f"Request field '{name}' refers to what is stored, and nothing is for this model;"
                f" {instead}",
                code="invalid_request_field",
                field=name,
            )
    if "background" in fields and reading.flag(fields["background"], "background"):
        raise wrong("background", "false: this model's answers are not stored to be fetched later")


def _converse(made: dict[str, Any], fields: dict[str, Raw], able: Capabilities, lost: Lost) -> None:
    if "input" not in fields:
        raise missing("input", "send a string or a list of items")
    items = Input(lost, late_system=able.late_system)
    if "instructions" in fields:
        given = fields["instructions"]
        if not is_text(given):
            raise wrong("instructions", "a string")
        items.instruct([Text(given)] if given != EMPTY else [], "instructions")
    items.read(fields["input"])
    if items.system:
        made["system"] = items.system
    made["messages"] = items.turns


def _plan(
    fields: dict[str, Raw],
    able: Capabilities,
    lost: Lost,
    *,
    output_max: int | None,
    forced: bool,
) -> Plan:
    """The cap and the thinking. A summary of the latter is shown if it is asked for: the newest
    models leave it out otherwise."""
    said = {"thinking": fields["thinking"]} if "thinking" in fields else {}
    if "max_output_tokens" in fields:
        reading.count(fields["max_output_tokens"], "max_output_tokens")
        said["max_completion_tokens"] = fields["max_output_tokens"]
    reasoning = reading.members(fields["reasoning"], "reasoning") if "reasoning" in fields else {}
    lost.unknown(reasoning, _REASONING, "reasoning")
    if "effort" in reasoning:
        said["reasoning"] = Raw(reading.encode({"effort": reasoning["effort"]}))
    plan = chat_thinking.plan(said, able, lost, output_max=output_max, forced=forced)
    summaries = [name for name in _SUMMARIES if name in reasoning]
    if summaries and plan.thinking == {"type": "adaptive"}:
        plan.thinking = {"type": "adaptive", "display": "summarized"}
    elif not plan.thinks:
        lost.drop(*(f"reasoning.{name}" for name in summaries))
    return plan


def _schema(fields: dict[str, Raw], able: Capabilities, lost: Lost) -> Raw | None:
    """The schema that an answer must keep to."""
    text = reading.members(fields["text"], "text") if "text" in fields else {}
    lost.unknown(text, _TEXT, "text")
    if text.get("verbosity", _VERBOSITY) != _VERBOSITY:
        lost.drop("text.verbosity")
    asked = reading.members(text["format"], "text.format") if "format" in text else {}
    kind = reading.text(asked["type"], "text.format.type") if "type" in asked else "text"
    if kind not in {"text", "json_object", "json_schema"}:
        raise wrong("text.format.type", "'text', 'json_object' or 'json_schema'")
    if kind == "json_schema" and "schema" not in asked:
        raise missing("text.format.schema", "it is the JSON schema to keep to")
    if kind == "json_object" or (kind == "json_schema" and not able.schemas):
        lost.drop("text.format")
    elif kind == "json_schema":
        return asked["schema"]
    return None


def _streamed(fields: dict[str, Raw], lost: Lost) -> bool:
    if "stream_options" in fields:
        asked = reading.members(fields["stream_options"], "stream_options")
        lost.unknown(asked, frozenset({"include_obfuscation"}), "stream_options")
    return "stream" in fields and reading.flag(fields["stream"], "stream")


def _include(fields: dict[str, Raw], lost: Lost) -> None:
    """Reasoning comes in any case so that it can be sent back; the rest there is none of."""
    given = reading.items(fields["include"], "include") if "include" in fields else []
    for index, raw in enumerate(given):
        if reading.text(raw, f"include[{index}]") != "reasoning.encrypted_content":
            lost.drop(f"include[{index}]")
