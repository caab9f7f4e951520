"""Reading a JSON request: top-level members, checked, and whether one was sent twice.

Only the top level is taken apart; members stay the caller's bytes. Every parser takes the last of
two members of one name, but a provider may take the first: such bodies are encoded anew, so that
what is priced is what is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Raw

from metering.errors import InvalidRequest

COUNT_MAX = 10**9
MODEL_MAX = 256
"""The longest model name, in characters."""
_COUNT_EXPECTED = f"a whole number from 0 to {COUNT_MAX}"
DEPTH_MAX = 4
"""How deep parts within parts are read as text; deeper ones are counted as JSON."""

_SPACE = b" \t\r\n"
_NULL = Raw(b"null")
_members = msgspec.json.Decoder(dict[str, Raw])
_json_encode = msgspec.json.Encoder().encode
_any = msgspec.json.Decoder()


def members(body: bytes) -> dict[str, Raw]:
    """The top-level members of a request; raises InvalidRequest `invalid_json`."""
    try:
        return _members.decode(body)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, msgspec.MsgspecError) else "too deep or not UTF-8"
        raise InvalidRequest(
            f"Body JSON is invalid: {reason}; send one JSON object", code="invalid_json"
        ) from None


def encode(fields: dict[str, Raw]) -> bytes:
    """An object of members, their bytes as they are."""
    return _json_encode(fields)


def renamed(body: bytes, model: str) -> bytes:
    """A JSON request that names another model."""
    return encode({**members(body), "model": Raw(_json_encode(model))})


def repeats(body: bytes, fields: dict[str, Raw]) -> bool:
    """Whether an object of these decoded members names one of them twice."""
    if len(_json_encode(fields)) == len(body):
        return False  # compact, as all SDKs send it: nothing is missing
    return not _laid_out(body, fields)


def once(body: bytes, fields: dict[str, Raw]) -> bytes | None:
    """An object with each of these decoded members once; None: the body is that already."""
    return encode(fields) if repeats(body, fields) else None


def _laid_out(body: bytes, fields: dict[str, Raw]) -> bool:
    """Whether the body is exactly these members, in this order, with space between."""
    at = body.index(b"{") + 1
    for index, (name, value) in enumerate(fields.items()):
        for piece in (b"," if index else b"", _json_encode(name), b":", bytes(value)):
            at = _skip(body, at)
            if not body.startswith(piece, at):
                return False
            at += len(piece)
    return body.startswith(b"}", _skip(body, at))


def _skip(body: bytes, at: int) -> int:
    while body[at] in _SPACE:
        at += 1
    return at


def without(body: bytes, name: str) -> tuple[bytes, Raw | None]:
    """A body less one of its top-level members, all other bytes as they came; and that member.

    None: it has no such member, or is no JSON object.
    """
    try:
        fields = _members.decode(body)
    except (ValueError, RecursionError):
        return body, None
    found = fields.get(name)
    if found is None:
        return body, None
    if repeats(body, fields):
        return encode({it: value for it, value in fields.items() if it != name}), found
    start, end = _span(body, fields, name)
    return body[:start] + body[end:], found


def _span(body: bytes, fields: dict[str, Raw], name: str) -> tuple[int, int]:
    """Where one of the members stands that a body is exactly made of, with the comma before it; or
    if it is the first, after it."""
    start = end = body.index(b"{") + 1
    first = True
    for given, value in fields.items():
        start = _skip(body, end)
        named = start if first else _skip(body, start + 1)
        colon = _skip(body, named + len(_json_encode(given)))
        end = _skip(body, colon + 1) + len(bytes(value))
        if given == name:
            break
        first = False
    if first:
        after = _skip(body, end)
        end = _skip(body, after + 1) if body[after] == ord(",") else after
    return start, end


def _value(fields: dict[str, Raw], name: str, kind: type, expected: str) -> object:
    """The member, or None where it is missing or null; raises InvalidRequest naming it."""
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        value: object = _any.decode(raw)
    except (ValueError, RecursionError):  # not UTF-8, or nested too deep
        raise wrong(name, expected) from None
    if value is not None and type(value) is not kind:
        raise wrong(name, expected)
    return value


def wrong(name: str, expected: str) -> InvalidRequest:
    """The fault of a member that is not what it must be."""
    return InvalidRequest(
        f"Request field '{name}' must be {expected}", code="invalid_request_field", field=name
    )


def model(fields: dict[str, Raw], named: str = "", *, unless: str = "") -> str:
    """The model asked for, else the one `named` elsewhere; raises InvalidRequest. Empty if the
    member `unless` tells it instead."""
    value = _value(fields, "model", str, "a string, the model's name") or named
    if not value and fields.get(unless, _NULL) != _NULL:
        return ""
    if not isinstance(value, str) or not value:
        raise InvalidRequest(
            "Required request field 'model' is missing; name the model to call",
            code="required_field_missing",
            field="model",
        )
    if len(value) > MODEL_MAX or not value.isprintable():
        raise wrong("model", f"at most {MODEL_MAX} characters without control characters")
    return value


def optional_model(fields: dict[str, Raw]) -> str:
    """The model asked for; empty where the provider is to choose. Raises InvalidRequest."""
    return model(fields) if fields.get("model", _NULL) != _NULL else ""


def flag(fields: dict[str, Raw], name: str) -> bool:
    """A boolean member, False by default; raises InvalidRequest."""
    return _value(fields, name, bool, "true or false") is True


def count(fields: dict[str, Raw], name: str) -> int | None:
    """A member that counts something; raises InvalidRequest."""
    if name not in fields:
        return None
    value = _value(fields, name, int, _COUNT_EXPECTED)
    if not isinstance(value, int):
        return None
    if not 0 <= value <= COUNT_MAX:
        raise wrong(name, _COUNT_EXPECTED)
    return value


def choices(fields: dict[str, Raw], name: str = "n") -> int:
    """How many answers are asked for, by default one; raises InvalidRequest."""
    asked = count(fields, name)
    if asked == 0:
        raise wrong(name, "1 or more")
    return asked or 1


def word(fields: dict[str, Raw], name: str) -> str | None:
    """A string member, or None; a wrong type is the provider's to refuse."""
    return _decoded(_text, fields.get(name))


def tier(fields: dict[str, Raw]) -> str | None:
    """The `service_tier`, if it is one word: rows keep it, so no text is taken for one."""
    return _decoded(_tier, fields.get("service_tier"))


def user(fields: dict[str, Raw]) -> str | None:
    """Whom OpenAI is told that a call is for."""
    for name in ("user", "safety_identifier"):
        if name in fields and (found := word(fields, name)):
            return found
    return None


def metadata_user(fields: dict[str, Raw]) -> str | None:
    """Whom Anthropic is told that a call is for."""
    metadata = fields.get("metadata")
    if metadata is None:
        return None
    try:
        return _metadata.decode(metadata).user_id
    except (ValueError, RecursionError):  # the provider's to refuse
        return None


def _decoded(decoder: msgspec.json.Decoder[str], raw: Raw | None) -> str | None:
    if raw is None:
        return None
    try:
        return decoder.decode(raw)
    except ValueError:
        return None


class Inputs(NamedTuple):
    """What a member holds that may be one text or a batch of them, as text or as tokens."""

    texts: tuple[str, ...]
    tokens: int
    size: int
    """How many texts, of either kind."""


def inputs(fields: dict[str, Raw], name: str) -> Inputs:
    """A text, a list of texts, of tokens, or of lists of tokens; other shapes count as JSON."""
    raw = fields.get(name)
    if raw is None:
        return Inputs((), 0, 1)
    try:
        given = _inputs.decode(raw)
    except ValueError:
        return Inputs(tuple(_plain(raw)), 0, 1)
    if isinstance(given, str):
        return Inputs((given,), 0, 1)
    texts = tuple(it for it in given if isinstance(it, str))
    lists = [it for it in given if isinstance(it, list)]
    single = sum(1 for it in given if isinstance(it, int))
    tokens = single + sum(map(len, lists))
    return Inputs(texts, tokens, max(1, len(texts) + len(lists) + bool(single)))


class _Metadata(msgspec.Struct, gc=False):
    user_id: str | None = None


class _Source(msgspec.Struct, gc=False):
    type: str = ""
    data: Raw = Raw(b"")
    content: Raw = Raw(b"")


class _Part(msgspec.Struct, gc=False):
    text: str | None = None
    thinking: str | None = None
    title: str | None = None
    context: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    source: Raw = Raw(b"")
    content: Raw = Raw(b"")
    input: Raw = Raw(b"")


class _Message(msgspec.Struct, gc=False):
    content: Raw = Raw(b"")
    tool_calls: Raw = Raw(b"")


class _Item(msgspec.Struct, gc=False):
    content: Raw = Raw(b"")
    arguments: Raw = Raw(b"")
    output: Raw = Raw(b"")
    summary: Raw = Raw(b"")


_items = msgspec.json.Decoder(list[_Item])
_messages = msgspec.json.Decoder(list[_Message])
_parts = msgspec.json.Decoder(list[_Part])
_one_part = msgspec.json.Decoder(_Part)
_source = msgspec.json.Decoder(_Source | str | None)
_metadata = msgspec.json.Decoder(_Metadata)
_text = msgspec.json.Decoder(str)
_tier: msgspec.json.Decoder[str] = msgspec.json.Decoder(
    Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}\Z")]
)
_inputs = msgspec.json.Decoder(str | list[str | int | list[int]])


def prompt_texts(
    fields: dict[str, Raw], content: Iterable[str], plain: Iterable[str]
) -> tuple[str, ...]:
    """The texts of a prompt for the tokenizer, images and other base64 left out.

    `content` names members that are text or parts, `plain` those counted as the JSON they are.
    """
    texts: list[str] = []
    for name in content:
        texts.extend(_content(fields.get(name)))
    for message in _decoded_messages(fields.get("messages")):
        texts.extend(_content(message.content))
        if message.tool_calls:
            texts.extend(_plain(message.tool_calls))
    for name in plain:
        if name in fields:
            texts.extend(_plain(fields[name]))
    return tuple(texts)


def item_texts(raw: Raw | None) -> tuple[str, ...]:
    """The texts of an `input` that is a text or a list of items: messages, calls, outputs."""
    if not raw or memoryview(raw)[0] != ord("["):
        return tuple(_content(raw))
    try:
        items = _items.decode(raw)
    except ValueError:
        return tuple(_plain(raw))
    members = [(it.content, it.arguments, it.output, it.summary) for it in items]
    return tuple(text for item in members for member in item for text in _content(member))


def _decoded_messages(raw: Raw | None) -> list[_Message]:
    if raw is None:
        return []
    try:
        return _messages.decode(raw)
    except ValueError:
        return [_Message(tool_calls=raw)]  # a shape we do not know: counted as it is


def _plain(raw: Raw | None) -> Iterator[str]:
    if raw and (text := bytes(raw)) not in (b"null", b"[]"):
        yield text.decode(errors="replace")


def _content(raw: Raw | None, depth: int = 0) -> Iterator[str]:
    """The texts of a content: a string, a part, or parts, which may hold contents themselves."""
    first = memoryview(raw)[0] if raw else 0
    try:
        if first == ord('"'):
            yield _text.decode(raw or b"")
        elif first == ord("[") and depth < DEPTH_MAX:
            for part in _parts.decode(raw or b""):
                yield from _part(part, depth + 1)
        elif first == ord("{") and depth < DEPTH_MAX:
            yield from _part(_one_part.decode(raw or b""), depth + 1)
        elif first in b"[{":
            yield from _plain(raw)
    except ValueError:  # a shape we do not know: counted as it is
        yield from _plain(raw)


def _part(part: _Part, depth: int) -> Iterator[str]:
    for text in (part.text, part.thinking, part.title, part.context, part.stdout, part.stderr):
        if text:
            yield text
    yield from _content(part.content, depth)
    yield from _plain(part.input)
    if not part.source:
        return
    source = _source.decode(part.source)
    if isinstance(source, str):
        yield source
    elif source is not None:
        if source.type == "text":
            yield from _content(source.data, depth)
        yield from _content(source.content, depth)
