"""A request to `/v1/messages` as one to `/v1/chat/completions`.

What OpenAI's form has a member for is carried, what it has none for is named in `dropped`, and
what the model could not do without is refused. Nothing is asked for that the client did not ask
for, but for the usage of a stream, which Anthropic's always tells.
"""

from __future__ import annotations

from msgspec import Raw

from metering.translate import reading
from metering.translate.base import Options, Translated
from metering.translate.openai import members, messages_reasoning, messages_tools
from metering.translate.openai.members import Fields
from metering.translate.openai.messages_answer import MessagesAnswers
from metering.translate.openai.messages_blocks import chat_messages
from metering.translate.reading import Lost

STOPS_MAX = 4
"""How many stop sequences OpenAI takes."""

_USAGE_WANTED = Raw(b'{"include_usage":true}')
_TIERS = {"auto": "auto", "standard_only": "default"}
_FORMAT_NAME = "output"
"""What OpenAI calls an output's schema, which has no name in Anthropic's form."""


def messages_to_chat(body: bytes, options: Options) -> Translated:  # noqa: ARG001
    """See `base.Translate`."""
    fields = reading.top(body, utf8=True)
    lost = Lost()
    model = members.need_text(fields, "model", "", "name the model to call")
    name = str(members.value(model))
    if not name:
        raise reading.missing("model", "name the model to call")
    out: dict[str, object] = {"model": model, "messages": _messages(fields, lost)}
    _limits(fields, name, out)
    messages_tools.carry(fields, out, lost)
    _output(fields, name, out, lost)
    _caller(fields, out, lost)
    if members.take_flag(fields, "stream", ""):
        out["stream"] = True
        out["stream_options"] = _USAGE_WANTED
    members.drop_rest(lost, fields)
    return Translated(
        body=reading.encode(out),
        answers=MessagesAnswers(),
        dropped=lost.dropped,
        changed=lost.changed,
    )


def _messages(fields: Fields, lost: Lost) -> list[dict[str, object]]:
    raw = members.take(fields, "messages")
    if raw is None:
        raise reading.missing("messages", "send the conversation, a list of messages")
    given = reading.objects(raw, "messages")
    system = members.take(fields, "system")
    found = chat_messages(system, given, lost)
    if not any(message["role"] != "system" for message in found):
        raise reading.wrong("messages", "at least one message that says something to the model")
    return found


def _limits(fields: Fields, model: str, out: dict[str, object]) -> None:
    """How much is written, how freely, and where it stops."""
    for name, to in (
        ("max_tokens", messages_reasoning.cap_name(model)),
        ("temperature", "temperature"),
        ("top_p", "top_p"),
    ):
        raw = members.take(fields, name)
        if raw is not None:
            if type(members.value(raw)) not in (int, float):
                raise reading.wrong(name, "a number")
            out[to] = raw
    raw = members.take(fields, "stop_sequences")
    if raw is None:
        return
    stops = members.value(raw)
    if not isinstance(stops, list) or not all(isinstance(it, str) for it in stops):
        raise reading.wrong("stop_sequences", "a list of strings")
    if len(stops) > STOPS_MAX:
        raise reading.untranslatable(
            "stop_sequences",
            f"has {len(stops)} texts, and OpenAI takes {STOPS_MAX}; send the most important ones",
        )
    if stops:
        out["stop"] = raw


def _output(fields: Fields, model: str, out: dict[str, object], lost: Lost) -> None:
    """How hard the model thinks, and the form of what it writes."""
    raw = members.take(fields, "output_config")
    config = members.fields(raw, "output_config") if raw is not None else {}
    effort = messages_reasoning.effort(fields, config, model, lost)
    if effort is not None:
        out["reasoning_effort"] = effort
    shape = members.take(config, "format")
    path = "output_config.format"
    if shape is None:
        shape, path = members.take(fields, "output_format"), "output_format"
    members.drop_rest(lost, config, "output_config")
    if shape is not None:
        out["response_format"] = _format(members.fields(shape, path), path, lost)


def _format(shape: Fields, path: str, lost: Lost) -> dict[str, object]:
    if members.take_word(shape, "type", path) != "json_schema":
        raise reading.wrong(f"{path}.type", "json_schema")
    schema = members.take(shape, "schema")
    if schema is None or members.opening(schema) != members.OBJECT:
        raise reading.wrong(f"{path}.schema", "an object, a JSON schema")
    members.drop_rest(lost, shape, path)
    described: dict[str, object] = {"name": _FORMAT_NAME, "schema": schema}
    if _holds(schema):
        described["strict"] = True
    else:  # OpenAI would refuse to hold the model to it
        lost.change(path)
    return {"type": "json_schema", "json_schema": described}


def _holds(schema: Raw) -> bool:
    """Whether OpenAI promises that what is written conforms to a schema."""
    try:
        return _closed(members.value(schema))
    except RecursionError:
        return False


def _closed(schema: object) -> bool:
    """Whether each object of a schema has all its members and no others: OpenAI's condition."""
    if isinstance(schema, list):
        return all(_closed(it) for it in schema)
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if isinstance(properties, dict):
        required = schema.get("required")
        if schema.get("additionalProperties") is not False or not isinstance(required, list):
            return False
        if any(name not in required for name in properties):
            return False
    return all(_closed(it) for it in schema.values())


def _caller(fields: Fields, out: dict[str, object], lost: Lost) -> None:
    """Whom the call is for, and how urgent it is."""
    raw = members.take(fields, "metadata")
    if raw is not None:
        metadata = members.fields(raw, "metadata")
        user = members.take_text(metadata, "user_id", "metadata")
        if user is not None:
            out["user"] = user
        members.drop_rest(lost, metadata, "metadata")
    tier = members.take_word(fields, "service_tier", "")
    if tier:
        if tier not in _TIERS:
            raise reading.wrong("service_tier", " or ".join(_TIERS))
        out["service_tier"] = _TIERS[tier]
