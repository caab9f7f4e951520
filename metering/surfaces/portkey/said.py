"""What the `x-portkey-*` headers of a call say: whose it is, and where it is to go.

| header, after `x-portkey-`               | means                                                |
|------------------------------------------|------------------------------------------------------|
| api-key                                  | our key; see `Surface.key_headers`                   |
| provider (first: mode `proxy openai`)    | a provider's name, or `@slug` of a virtual key       |
| virtual-key                              | the slug of a stored credential                      |
| config                                   | targets, and how they are chosen from: `config`      |
| custom-host                              | where to, in place of the provider's own host        |
| azure-resource-name, -deployment-id,     | a deployment; what it is; a token of Entra's in      |
| -api-version, -model-name, -ad-token     | place of the resource's key                          |
| retry-count, request-timeout             | how often it is tried again, ms to the answer's head |
| strict-open-ai-compliance                | `false`: answers have more than OpenAI's members     |
| metadata                                 | properties; of these `_user` is whom the call is for |
| trace-id, span-id, span-name,            | properties; `traceparent` and `baggage` say some too |
| parent-span-id, prompt-id, -version-id   |                                                      |
| anthropic-beta, -version,                | go to the provider, without the prefix               |
| openai-organization, -project, -beta     |                                                      |
| forward-headers                          | checked; headers that are nobody's pass anyway       |

Others say nothing here, and none goes to a provider. An empty value is no header.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

import msgspec

from metering.core.annotations import (
    PROPERTIES_MAX,
    PROPERTY_NAME_MAX,
    Annotations,
    annotate,
    is_text,
)
from metering.core.headers import header_text
from metering.core.routing import RETRIES_MAX, Node, Retry, Target, leaf
from metering.errors import InvalidRequest
from metering.surfaces.portkey.config import (
    AZURE,
    TIMEOUT_MS_MAX,
    check_mode,
    deployment,
    from_config,
    host,
)

PREFIX = b"x-portkey-"
WHERE = frozenset(PREFIX + it for it in (b"provider", b"virtual-key", b"config", b"custom-host"))
"""Headers that say where a call goes."""
METADATA_CHARS_MAX = 128
"""The longest value of metadata."""
TRACE = ("trace-id", "span-id", "span-name", "parent-span-id", "prompt-id", "prompt-version-id")
"""Headers that become properties of the call, with `_` for `-`."""
FORWARDED = (
    *("anthropic-beta", "anthropic-version"),
    *("openai-organization", "openai-project", "openai-beta"),
)
"""Headers that go to the provider, without Portkey's prefix."""
LEGACY_MODE = "proxy "
"""What stood before a provider's name in the header `mode`, the first that named one."""
BAGGAGE_MAX = 64
_PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_metadata = msgspec.json.Decoder(dict[str, Any])

Headers = Sequence[tuple[bytes, bytes]]


def values_of(headers: Headers) -> dict[str, str]:
    """Portkey's headers by the rest of their names, trimmed, without empty ones."""
    found: dict[str, str] = {}
    for name, value in headers:
        if name.startswith(PREFIX) and (text := header_text(value)):
            key = name[len(PREFIX) :].decode("latin-1")
            if found.setdefault(key, text) != text:
                raise wrong(key, "came more than once with different values; send it once")
    return found


def annotated(headers: Headers) -> Annotations:
    """What a call says about itself, here and by `xProxy-*` headers, which count first."""
    said = annotate(headers)
    values = values_of(headers)
    if not values:
        return said
    metadata = _read_metadata(values.get("metadata"))
    traced = {it.replace("-", "_"): _traced(it, values[it]) for it in TRACE if it in values}
    traced = _baggage(headers) | _trace_context(headers) | traced
    if not metadata and not traced:
        return said
    user = metadata.pop("_user", None)
    if user is not None and " " in user:
        raise wrong("metadata", "has a _user with spaces in it; an id has none")
    return msgspec.structs.replace(
        said,
        user_id=said.user_id or user or None,
        properties={**traced, **metadata, **said.properties},
    )


def _trace_context(headers: Headers) -> dict[str, str]:
    """The trace that W3C's `traceparent` is of; Portkey's own headers count before it."""
    parents = [header_text(value) for name, value in headers if name == b"traceparent"]
    match = _PARENT.fullmatch(parents[0]) if len(parents) == 1 else None
    return {} if match is None else {"trace_id": match[1], "parent_span_id": match[2]}


def _baggage(headers: Headers) -> dict[str, str]:
    """What W3C's `baggage` says, as metadata: instrumentation sets it, so that what could not be
    kept is left out and not refused."""
    pairs = [pair for name, value in headers if name == b"baggage" for pair in value.split(b",")]
    found: dict[str, str] = {}
    for pair in pairs[:BAGGAGE_MAX]:
        key, _, value = header_text(pair.partition(b";")[0]).partition("=")
        key, text = unquote(key.strip()), unquote(value.strip())
        if key and all(len(it) <= METADATA_CHARS_MAX and is_text(it) for it in (key, text)):
            found.setdefault(key, text)
    found.pop("_user", None)  # whom a call is for its own headers say
    return found


def _traced(name: str, value: str) -> str:
    if not is_text(value):
        raise wrong(name, "must be at most 256 characters without control characters")
    return value


def _read_metadata(text: str | None) -> dict[str, str]:
    if text is None:
        return {}
    try:
        members = _metadata.decode(text)
    except (ValueError, RecursionError):
        raise wrong("metadata", "must be a JSON object of strings") from None
    if len(members) > PROPERTIES_MAX:
        raise wrong("metadata", f"has {len(members)} members; at most {PROPERTIES_MAX} are kept")
    for key, value in members.items():
        if not isinstance(value, str) or len(value) > METADATA_CHARS_MAX or not is_text(value):
            problem = f"must be a string of at most {METADATA_CHARS_MAX} characters"
            raise wrong(f"metadata.{key[:PROPERTY_NAME_MAX]}", problem)
        if not key or len(key) > PROPERTY_NAME_MAX or not is_text(key):
            raise wrong("metadata", f"has a name of more than {PROPERTY_NAME_MAX} characters")
    return members


def plan(headers: Headers) -> Node:
    """Where a call may go, as its headers say; raises InvalidRequest."""
    values = values_of(headers)
    base = _target(values)
    _check_forwarded(values.get("forward-headers"))
    text = values.get("config")
    return leaf(base) if text is None else from_config(text, base)


def _target(values: dict[str, str]) -> Target:
    text = values.get
    more = [(it.encode(), values[it].encode()) for it in FORWARDED if it in values]
    retries = _count(values, "retry-count", RETRIES_MAX)
    check_mode(text("azure-auth-mode"), "x-portkey-azure-auth-mode")
    return Target(
        provider=text("provider") or _legacy_provider(text("mode", "")),
        credential=text("virtual-key"),
        host=host(text("custom-host"), "x-portkey-custom-host"),
        azure=deployment({it: text(f"azure-{name}") for it, name in AZURE.items()}),
        headers=tuple(more),
        strict=text("strict-open-ai-compliance", "").lower() != "false",
        retry=Retry(retries or 0),
        timeout_ms=_count(values, "request-timeout", TIMEOUT_MS_MAX),
    )


def _legacy_provider(mode: str) -> str | None:
    """The provider that `proxy openai` names."""
    return mode.removeprefix(LEGACY_MODE).strip() or None if mode.startswith(LEGACY_MODE) else None


def _count(values: dict[str, str], name: str, most: int) -> int | None:
    text = values.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9) or int(text) > most:
        raise wrong(name, f"must be a whole number from 0 to {most}")
    return int(text) or None


def _check_forwarded(text: str | None) -> None:
    names = [it.strip().lower() for it in (text or "").split(",")]
    if "x-portkey-forward-headers" in names:
        raise wrong("forward-headers", "may not name itself")


def wrong(name: str, problem: str) -> InvalidRequest:
    """The fault of a header; `name` is the rest of its name."""
    field = f"x-portkey-{name}"
    return InvalidRequest(f"Header {field} {problem}", code="invalid_header", field=field)
